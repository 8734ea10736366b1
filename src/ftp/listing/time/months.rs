//! The names of months in the languages that servers were seen to use, in whatever encoding.
//!
//! A name is folded (lower case, no accents, no dot) before it is looked up, so that `févr.`, `Févr` and the Latin-1 form
//! are one. Chinese, Japanese and Korean write numbers, which [`time`](super) reads itself.

/// The month's number from its name, in English and the languages that servers were seen to use.
pub(in super::super) fn month(token: &[u8]) -> Option<i64> {
    if let [a, b, c] = *token {
        let english = [a | 0x20, b | 0x20, c | 0x20];
        if let Some(at) = ENGLISH.iter().position(|name| *name == english) {
            return i64::try_from(at + 1).ok();
        }
    }
    if token.len() < 3
        || token.len() > LONGEST_MONTH
        || !token.iter().any(|b| b.is_ascii_alphabetic() || *b >= 0x80)
    {
        return None;
    }
    let mut folded = [0; LONGEST_MONTH];
    let folded = fold(token, &mut folded);
    let at = MONTHS.iter().position(|names| names.iter().any(|name| name.as_bytes() == folded))?;
    i64::try_from(at + 1).ok()
}

/// Lower case without accents, without a final dot: UTF-8 and Latin-1 both end up as plain letters.
fn fold<'a>(token: &[u8], into: &'a mut [u8; LONGEST_MONTH]) -> &'a [u8] {
    let token = token.strip_suffix(b".").or_else(|| token.strip_suffix(b",")).unwrap_or(token);
    let token = token.strip_suffix(b".").unwrap_or(token);
    let mut length = 0;
    let mut rest = token;
    while let Some((&byte, after)) = rest.split_first() {
        let (plain, after) = match (byte, after.split_first()) {
            (0xC3, Some((&second @ 0x80..=0xBF, after))) => (latin_1(second | 0x40), after),
            (0xC4 | 0xC5, Some((&second @ 0x80..=0xBF, after))) => (latin_extended(byte, second), after),
            (0xC0.., Some((0x80..=0xBF, _))) => (byte, after),
            (0xC0.., _) => (latin_1(byte), after),
            _ => (byte.to_ascii_lowercase(), after),
        };
        if let Some(slot) = into.get_mut(length) {
            *slot = plain;
            length += 1;
        }
        rest = after;
    }
    into.get(..length).unwrap_or_default()
}

fn latin_1(byte: u8) -> u8 {
    match byte | 0x20 {
        0xE0..=0xE5 => b'a',
        0xE7 => b'c',
        0xE8..=0xEB => b'e',
        0xEC..=0xEF => b'i',
        0xF2..=0xF6 => b'o',
        0xF9..=0xFC => b'u',
        0xFD => b'y',
        _ => byte,
    }
}

/// The letters of U+0100 to U+017F that months are written with.
fn latin_extended(lead: u8, second: u8) -> u8 {
    match (lead, second) {
        (0xC4, 0x8C | 0x8D) => b'c',
        (0xC4, 0x9A | 0x9B) => b'e',
        (0xC4, 0x9E | 0x9F) => b'g',
        (0xC5, 0x98 | 0x99) => b'r',
        (0xC5, 0x9A | 0x9B | 0x9E | 0x9F | 0xA0 | 0xA1) => b's',
        (0xC5, 0xAE | 0xAF) => b'u',
        (0xC5, 0xB9..=0xBE) => b'z',
        _ => second,
    }
}

const ENGLISH: [[u8; 3]; 12] = [
    *b"jan", *b"feb", *b"mar", *b"apr", *b"may", *b"jun", *b"jul", *b"aug", *b"sep", *b"oct", *b"nov",
    *b"dec",
];

/// Bytes; room for `september`, and for the Cyrillic and Greek names in UTF-8.
const LONGEST_MONTH: usize = 18;

/// Month names after [`fold`]: English in full, German, French, Italian, Spanish, Portuguese, Dutch, the Nordic languages,
/// Finnish, Polish, Czech, Hungarian, Romanian, Turkish, Slovenian, Russian. No name is in two months; Croatian is left out
/// because its `lip`, `srp` and `lis` are other months in Polish and Czech.
const MONTHS: [&[&str]; 12] = [
    &[
        "january", "jan", "janv", "januar", "janvier", "gen", "ene", "sty", "led", "ian", "oca", "tammi",
        "янв", "Янв",
    ],
    &[
        "february", "feb", "fev", "fevr", "fevrier", "februar", "febr", "lut", "uno", "sub", "helmi", "фев",
        "Фев",
    ],
    &["march", "mar", "mars", "marz", "mrz", "mrt", "marc", "mzo", "bre", "maalis", "мар", "Мар"],
    &["april", "apr", "avr", "avril", "abr", "kwi", "dub", "nis", "huhti", "апр", "Апр"],
    &["mai", "maj", "mei", "mag", "maio", "kve", "touko", "май", "мая", "Май", "Мая"],
    &["june", "jun", "juni", "juin", "giu", "cze", "cen", "cvn", "iun", "haz", "kesa", "июн", "Июн"],
    &[
        "july", "jul", "juli", "juil", "juillet", "lug", "lip", "cec", "cvc", "iul", "tem", "heina", "июл",
        "Июл",
    ],
    &["august", "aou", "aout", "ago", "agto", "avg", "sie", "srp", "agu", "elo", "авг", "Авг"],
    &["september", "sept", "septembre", "set", "szept", "wrz", "zar", "eyl", "syys", "сен", "Сен"],
    &["october", "okt", "oktober", "octobre", "ott", "out", "paz", "rij", "eki", "loka", "окт", "Окт"],
    &["november", "novembre", "lis", "kas", "marras", "ноя", "Ноя"],
    &[
        "december", "dec", "dez", "dic", "des", "dezember", "decembre", "gru", "pro", "ara", "joulu", "дек",
        "Дек",
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_month_name_stands_for_two_months() {
        let mut names: Vec<_> = MONTHS.iter().flat_map(|names| names.iter()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
