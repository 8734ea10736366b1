//! systemd: what its generator makes of the documented lines of fstab, and the unit template.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::scratch::Scratch;
use harness::skip;

#[test]
fn systemd_makes_of_the_documented_lines_what_they_promise() {
    let generator = ["/usr/lib/systemd", "/lib/systemd"]
        .map(|folder| Path::new(folder).join("system-generators/systemd-fstab-generator"))
        .into_iter()
        .find(|path| path.exists());
    let Some(generator) = generator else { return skip("there is no systemd-fstab-generator") };
    let text = include_str!("../docs/boot.md");
    let (_, lines) = text.split_once("```fstab\n").unwrap();
    let (lines, _) = lines.split_once("```").unwrap();
    let scratch = Scratch::new("generator");
    let fstab = scratch.path().join("fstab");
    fs::write(&fstab, lines).unwrap();
    let folder = |name: &str| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let normal = folder("normal");
    let output = Command::new(generator)
        .args([&normal, &folder("early"), &folder("late")])
        .env("SYSTEMD_FSTAB", &fstab)
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .env("SYSTEMD_LOG_TARGET", "console")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let unit = |name: &str| fs::read_to_string(normal.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for name in ["srv-pub.mount", "srv-nas.mount", "srv-site.mount", "srv-work.mount", "srv-mine.mount"] {
        let unit = unit(name);
        assert!(unit.contains("Type=fuse.ftpfs"), "{unit}");
        assert!(unit.contains("credentials=") || unit.contains("What=work:"), "{unit}");
        assert!(!normal.join("local-fs.target.requires").join(name).exists(), "{name} could stop the boot");
        assert!(!normal.join("remote-fs.target.requires").join(name).exists(), "{name} is not optional");
    }
    for name in ["srv-pub.mount", "srv-nas.mount", "srv-work.mount"] {
        assert!(normal.join("remote-fs.target.wants").join(name).exists(), "{name} is not mounted at boot");
    }
    let automount = unit("srv-site.automount");
    assert!(automount.contains("TimeoutIdleSec=10min"), "{automount}");
    for name in ["srv-site.mount", "srv-mine.mount"] {
        assert!(!normal.join("remote-fs.target.wants").join(name).exists(), "{name} is mounted at boot");
    }
}

#[test]
fn the_unit_template_is_sound() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return skip("there is no systemd-analyze");
    }
    let scratch = Scratch::new("unit");
    let unit = scratch.path().join("ftpfs@nas.service");
    let template = include_str!("../packaging/ftpfs@.service");
    let program = env!("CARGO_BIN_EXE_ftpfs");
    fs::write(
        &unit,
        template.replace("/usr/bin/ftpfs", program).replace("man:ftpfs(8)", "https://localhost/"),
    )
    .unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&unit).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.lines().any(|line| line.contains("ftpfs@nas")), "{told}");
}
