//! DNS labels (RFC 1123), which meshes and experts are called by: their names become parts of host names in a cluster.

const MAX_BYTES: usize = 63;

/// What [`is_dns_label`] takes, in words.
pub const DNS_LABEL: &str = "1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends";

pub fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_BYTES).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_told_from_what_no_host_could_be_called() {
        let longest = "x".repeat(MAX_BYTES);
        for good in ["clinic", "drug-interactions", "7", "a-1", &longest] {
            assert!(is_dns_label(good), "{good}");
        }
        let too_long = "x".repeat(MAX_BYTES + 1);
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &too_long] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }
}
