//! Where symbolic links point: never out of the mount. Called by `fuse`.

use log::debug;

use crate::fs::{Answer, Caller, Errno, FileSystem};
use crate::ftp::{Error, Listing, RemotePath, Session};
use crate::queue::{Job, Priority, Turn};
use crate::tree::Ino;

impl FileSystem {
    /// readlink. The target is rewritten relative to the link, and never leads out of the mount: what would is refused.
    pub fn link_target(&self, caller: Caller, ino: Ino, answer: Answer<Vec<u8>>) {
        let (parent, target) = {
            let tree = self.tree.lock();
            let Some(node) = tree.node(ino) else { return answer.error(Errno::STALE) };
            (node.parent, node.attributes.target.clone())
        };
        let Some(parent) = parent else { return answer.error(Errno::NOENT) };
        if let Some(target) = target {
            return answer.send(self.inside(parent, &target));
        }
        let (Ok(folder), Some(fs)) = (self.path(parent), self.arc()) else {
            return answer.error(Errno::STALE);
        };
        let answer = self.hold(caller, answer);
        let asked = folder.clone();
        let end = move |outcome: Result<Listing, Error>| match outcome {
            Err(error) => answer.error(fs.fail("read the links of", &folder, &error)),
            Ok(listing) => {
                let mut tree = fs.tree.lock();
                tree.apply_targets(parent, &listing);
                let target = tree.node(ino).and_then(|node| node.attributes.target.clone());
                drop(tree);
                match target {
                    Some(target) => answer.send(fs.inside(parent, &target)),
                    None => answer.error(Errno::IO),
                }
            }
        };
        let attempt = move |session: &mut Session, _: &Turn<'_>| session.link_targets(&asked);
        self.submit(Job::new(Priority::Names, attempt, end).with_data().until(self.deadline()));
    }

    /// The target of a link in `folder`, as `../` steps and names only: that is all a path inside needs, and `..` after
    /// a name could be led elsewhere by another link.
    fn inside(&self, folder: Ino, target: &[u8]) -> Result<Vec<u8>, Errno> {
        let tree = self.tree.lock();
        let root = tree.root_path().clone();
        let folder = tree.path(folder).ok_or(Errno::NOENT)?;
        drop(tree);
        let outside = |_| Errno::ACCES;
        let to = folder.resolve(target).map_err(outside)?;
        // More steps up than there are folders would end at the server's root, which may be inside by chance.
        let ups = target.split(|&b| b == b'/').filter(|part| part == b"..").count();
        let depth = folder.as_bytes().split(|&b| b == b'/').filter(|part| !part.is_empty()).count();
        let climbs = target.first() != Some(&b'/') && ups > depth;
        if !to.is_within(&root) || climbs {
            debug!("a link in {folder} leads out of the mount");
            return Err(Errno::ACCES);
        }
        let names = |path: &RemotePath| -> Vec<Vec<u8>> {
            path.as_bytes()
                .split(|&b| b == b'/')
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        let (from, to) = (names(&folder), names(&to));
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let mut parts: Vec<Vec<u8>> = vec![b"..".to_vec(); from.len() - common];
        parts.extend_from_slice(to.get(common..).unwrap_or_default());
        if parts.is_empty() {
            parts.push(b".".to_vec());
        }
        Ok(parts.join(&b'/'))
    }
}
