// SPDX-License-Identifier: Apache-2.0

//! "Did you mean": the names that are nearest to a wrong one.

/// Longest name that is compared; beyond it nothing is near.
const MAX_LENGTH: usize = 64;

/// The known name nearest to `wrong`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(wrong, known).into_iter().next()
}

/// All known names that are near enough, nearest first.
#[must_use]
pub fn near<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    if wrong.len() > MAX_LENGTH {
        return Vec::new();
    }
    let limit = (wrong.chars().count() / 3).max(1);
    let mut found: Vec<_> = known
        .into_iter()
        .filter(|name| name.len() <= MAX_LENGTH)
        .map(|name| (distance(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_near_and_other_words_are_not() {
        let fields = ["allowPXE", "allowWorkflow", "ipxe", "osie"];
        assert_eq!(nearest("allowPxe", fields), Some("allowPXE"));
        assert_eq!(nearest("alowPXE", fields), Some("allowPXE"));
        assert_eq!(nearest("ipex", fields), None);
        assert_eq!(nearest("ipx", fields), Some("ipxe"));
        assert_eq!(nearest("kernel", fields), None);
        assert_eq!(near("m1", ["m2", "m10", "rack"]), ["m10", "m2"]);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
