//! What is done in a round: operations thrown with dice, the same for the same seed.

/// One operation. Slots hold open files; names are indices into [`NAMES`].
#[derive(Clone, Debug)]
pub enum Step {
    Open {
        slot: usize,
        name: usize,
        how: How,
    },
    Write {
        slot: usize,
        offset: u64,
        len: usize,
        fill: u8,
    },
    Add {
        slot: usize,
        len: usize,
        fill: u8,
    },
    Read {
        slot: usize,
        offset: u64,
        len: usize,
    },
    SetLen {
        slot: usize,
        len: u64,
    },
    Sync {
        slot: usize,
    },
    CloseCopy {
        slot: usize,
    },
    Close {
        slot: usize,
    },
    Touch {
        slot: usize,
        seconds: u64,
    },
    Truncate {
        name: usize,
        len: u64,
    },
    Load {
        name: usize,
    },
    MakeFolder {
        name: usize,
    },
    RemoveFolder {
        name: usize,
    },
    Remove {
        name: usize,
    },
    Rename {
        from: usize,
        to: usize,
        keep: bool,
    },
    Chmod {
        name: usize,
        mode: u32,
    },
    SetTime {
        name: usize,
        seconds: u64,
    },
    Stat {
        name: usize,
    },
    List {
        name: usize,
    },
    /// Another client writes a file (only where everything is asked for again).
    Behind {
        name: usize,
        len: usize,
        fill: u8,
    },
    CompareAll,
}

#[derive(Clone, Copy, Debug)]
pub struct How {
    pub read: bool,
    pub append: bool,
    pub truncate: bool,
    pub create: bool,
    pub exclusive: bool,
}

pub fn make(seed: u64, alone: bool) -> Vec<Step> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut steps: Vec<Step> = [0, 1].map(|name| Step::MakeFolder { name }).to_vec();
    while steps.len() < STEPS {
        let slot = dice.below(SLOTS as u64) as usize;
        let name = dice.below(NAMES.len() as u64) as usize;
        let fill = dice.below(255) as u8 + 1;
        let len = match dice.below(10) {
            0 => dice.below(300_000),
            1..3 => dice.below(20_000),
            _ => dice.below(200),
        };
        let offset = match dice.below(8) {
            0 => dice.below(300_000),
            1..4 => dice.below(10_000),
            _ => dice.below(150),
        };
        steps.push(match dice.below(103) {
            100.. if alone => Step::Behind { name, len: len as usize, fill },
            0..18 | 100.. => {
                let how = How {
                    read: dice.one_in(4),
                    append: dice.one_in(5),
                    truncate: dice.one_in(4),
                    create: !dice.one_in(3),
                    exclusive: dice.one_in(12),
                };
                Step::Open { slot, name, how }
            }
            18..34 => Step::Write { slot, offset, len: len as usize, fill },
            34..39 => Step::Add { slot, len: len as usize, fill },
            39..46 => Step::Read { slot, offset, len: len as usize },
            46..49 => Step::SetLen { slot, len: offset },
            49..52 => Step::Sync { slot },
            52..54 => Step::CloseCopy { slot },
            54..62 => Step::Close { slot },
            62..64 => Step::Touch { slot, seconds: 1_000_000_000 + offset },
            64..67 => Step::Truncate { name, len: offset },
            67..73 => Step::Load { name },
            73..77 => Step::MakeFolder { name },
            77..79 => Step::RemoveFolder { name },
            79..83 => Step::Remove { name },
            83..89 => {
                let to = dice.below(NAMES.len() as u64) as usize;
                Step::Rename { from: name, to, keep: dice.one_in(6) }
            }
            89..91 => Step::Chmod { name, mode: MODES[dice.below(MODES.len() as u64) as usize] },
            91..93 => Step::SetTime { name, seconds: 1_000_000_000 + offset },
            93..96 => Step::Stat { name },
            96..98 => Step::List { name },
            _ => Step::CompareAll,
        });
    }
    steps
}

pub fn told(step: &Step) -> String {
    let text = format!("{step:?}");
    let name = |key: &str, text: String| match text.find(key) {
        Some(at) => {
            let digits: String = text[at + key.len()..].chars().take_while(|c| c.is_ascii_digit()).collect();
            match digits.parse::<usize>() {
                Ok(index) => text.replacen(&format!("{key}{digits}"), &format!("{key}{}", NAMES[index]), 1),
                Err(_) => text,
            }
        }
        None => text,
    };
    ["name: ", "from: ", "to: "].into_iter().fold(text, |text, key| name(key, text))
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The first two are folders at the start; any may become a file or a folder.
pub const NAMES: [&str; 12] = ["d", "e", "a", "b", "c", "d/a", "d/b", "d/f", "d/f/a", "e/a", "e/g", "e/g/b"];
const MODES: [u32; 5] = [0o644, 0o600, 0o755, 0o700, 0o664];
pub const SLOTS: usize = 3;
/// Operations of a round.
pub const STEPS: usize = 120;
