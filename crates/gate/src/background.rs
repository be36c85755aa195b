//! The shipped background texts: everyday queries that belong to no expert. They train the reject class, and the
//! distance to them is half of the refusal score; a mesh is fitted against them without the operator doing anything.

/// One query a line; blank lines and `#` comments are left out.
pub(crate) fn shipped() -> Vec<String> {
    parse(include_str!("../data/background.txt"))
}

fn parse(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shipped_texts_are_many_and_all_different() {
        let texts = shipped();
        let distinct: BTreeSet<String> = texts.iter().map(|text| text.to_lowercase()).collect();
        assert!(texts.len() >= 800, "{}", texts.len());
        assert_eq!(distinct.len(), texts.len());
    }

    #[test]
    fn comments_and_blank_lines_are_no_texts() {
        assert_eq!(parse("# heading\n\n  one  \ntwo\n#three"), ["one", "two"]);
    }
}
