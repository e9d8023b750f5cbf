//! The rules version: by which rules the commits of a repository are understood.
//!
//! It is raised when a change of the rules would make two devices see different things in the same commits: what a delta means, how
//! siblings are rendered, what settling writes. Every record says by which rules it was made, every device which ones it knows.

/// The newest rules that are known here.
pub const RULES: u32 = 1;

/// The rules for the next commit: those that commits were made by already, or newer ones once every live device knows them.
///
/// `known` are the newest rules of any commit taken in, `supported` what each live device knows, this one included.
pub fn rules_in_effect(known: u32, supported: impl IntoIterator<Item = u32>) -> u32 {
    known.max(supported.into_iter().min().unwrap_or(RULES)).min(RULES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_raised_once_every_live_device_knows_them_and_never_lowered() {
        assert_eq!(rules_in_effect(1, [RULES]), RULES);
        assert_eq!(rules_in_effect(0, [0, RULES]), 0, "one device does not know them yet");
        assert_eq!(rules_in_effect(1, [0, RULES]), 1, "somebody used them already");
        assert_eq!(rules_in_effect(0, [RULES + 1]), RULES, "nobody writes by rules it does not know");
    }
}
