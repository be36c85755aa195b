//! Feedback tokens: what a router knew when it gave an answer, signed, so that any router of the mesh can take feedback on
//! it at any later time without having kept anything. Pure.
//!
//! `base64url(version ‖ JSON of the claims ‖ HMAC-SHA256)`, without padding. The signature is also over the mesh's name: the
//! token of one mesh is worth nothing in another, even under the same key. What it says can be read by whoever has it; it
//! is nothing that the reply did not say, or the request.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::keys::{Keys, TAG_BYTES};

/// The longest token that is looked at, bytes. [`MAX_LEGS`] and the limits of requests and cards keep ours below it.
pub(super) const MAX_TOKEN_BYTES: usize = 32 * 1024;
/// The most legs that a token names.
pub(super) const MAX_LEGS: usize = 32;
const VERSION: u8 = 1;
/// Signed in front of everything else: under the same key, nothing else that is ever signed can be taken for a token.
const PURPOSE: &[u8] = b"consilium feedback token\0";

/// What a token says. Readers leave out what they do not know.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) request_id: String,
    /// When the answer was given, milliseconds since 1970.
    pub(crate) issued: u64,
    pub(crate) tenant: String,
    /// `DISPATCHED`, `FALLBACK` or `REFUSED`.
    pub(crate) outcome: String,
    pub(crate) gate_revision: String,
    /// Those that ran, in the order of the plan.
    pub(crate) legs: Vec<Leg>,
}

/// One leg that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leg {
    pub(crate) expert: String,
    pub(crate) version: String,
    /// Position of its stage in the plan: 0 for the experts that the gate chose; those of a later stage ran because nobody
    /// before them had an answer.
    pub(crate) stage: usize,
    /// The gate's, 0..=1.
    pub(crate) probability: f64,
    /// How likely the gate was to put the leg into this stage of the plan, 0..=1: what learning from feedback has to weigh
    /// it by, within a stage. Whether a later stage came to run is not the gate's choice, and no part of it.
    pub(crate) propensity: f64,
    /// Whether the answer was its own, or had its own as a part.
    pub(crate) answered: bool,
}

/// Signs and opens tokens of one mesh.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    keys: Keys,
    /// Ends with a byte that no name has.
    mesh: Vec<u8>,
}

impl Seal {
    pub(super) fn new(keys: Keys, mesh: &str) -> Self {
        Self { keys, mesh: [mesh.as_bytes(), b"\0"].concat() }
    }

    pub(super) fn close(&self, claims: &Claims) -> String {
        let mut token = vec![VERSION];
        // Claims are texts, numbers and lists of them: writing them to memory does not fail. If it ever did, the token
        // would be one that does not open.
        if serde_json::to_writer(&mut token, claims).is_err() {
            token.clear();
        }
        let tag = self.keys.sign(&[PURPOSE, &self.mesh, &token]);
        token.extend(tag);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What `token` says, if it is one of this mesh.
    pub(super) fn open(&self, token: &str) -> Option<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        // Nothing is read before it is known to be our own.
        if !self.keys.verify(&[PURPOSE, &self.mesh, signed], tag) {
            return None;
        }
        let (&VERSION, claims) = signed.split_first()? else { return None };
        serde_json::from_slice(claims).ok()
    }
}

impl Claims {
    /// Whether the answer was given more than `window` before `now`. One that comes from a router whose clock is ahead
    /// is new.
    pub(super) fn are_older_than(&self, window: Duration, now: SystemTime) -> bool {
        Duration::from_millis(milliseconds(now).saturating_sub(self.issued)) > window
    }
}

/// Since 1970; zero for a clock that is further behind than that.
pub(super) fn milliseconds(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Who asked stays out of logs.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("request_id", &self.request_id)
            .field("outcome", &self.outcome)
            .field("legs", &self.legs)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;

    const MUTATIONS: usize = 1_000_000;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn seal(mesh: &str) -> Seal {
        Seal::new(Keys::parse(KEY).unwrap(), mesh)
    }

    fn leg(expert: &str) -> Leg {
        Leg { expert: expert.into(), version: "1".into(), stage: 0, probability: 0.75, propensity: 1.0, answered: true }
    }

    fn claims() -> Claims {
        Claims {
            request_id: "0197".into(),
            issued: 1_790_000_000_123,
            tenant: "ward-7".into(),
            outcome: "DISPATCHED".into(),
            gate_revision: "a1b2".into(),
            legs: vec![leg("labs")],
        }
    }

    #[test]
    fn a_token_is_the_same_for_ever() {
        // Routers of two versions stand side by side while one replaces the other.
        let token = seal("clinic").close(&claims());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        let json = &bytes[1..bytes.len() - TAG_BYTES];
        let expected = r#"{"request_id":"0197","issued":1790000000123,"tenant":"ward-7","outcome":"DISPATCHED","gate_revision":"a1b2","legs":[{"expert":"labs","version":"1","stage":0,"probability":0.75,"propensity":1.0,"answered":true}]}"#;
        assert_eq!((bytes[0], std::str::from_utf8(json).unwrap()), (1, expected));
        // Computed with Python's hmac, over the purpose, the mesh's name and what was just looked at.
        let tag: Vec<_> = bytes[bytes.len() - TAG_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(tag.concat(), "2ce47a7d35a8dbcf5a8c16bfd0760cfa52fc03b4a193d31c78c6e27427eef69e");
    }

    #[test]
    fn a_later_version_may_say_more() {
        let seal = seal("clinic");
        let mut value = serde_json::to_value(claims()).unwrap();
        value["mood"] = "fine".into();
        let close = |version: u8, json: &serde_json::Value| {
            let mut token = [&[version], json.to_string().as_bytes()].concat();
            token.extend(seal.keys.sign(&[PURPOSE, &seal.mesh, &token]));
            URL_SAFE_NO_PAD.encode(token)
        };
        assert_eq!(seal.open(&close(1, &value)), Some(claims()));
        assert_eq!(seal.open(&close(2, &value)), None, "or something that this one cannot read");
    }

    #[test]
    fn a_token_belongs_to_a_mesh_and_a_key() {
        let token = seal("clinic").close(&claims());
        assert_eq!(seal("clinic").open(&token), Some(claims()));
        assert_eq!(seal("clinic2").open(&token), None);
        assert_eq!(seal("clini").open(&token), None);
        assert_eq!(Seal::new(Keys::random().unwrap(), "clinic").open(&token), None);
    }

    #[test]
    fn whatever_is_no_token_is_none() {
        let seal = seal("clinic");
        let token = seal.close(&claims());
        for cut in 0..token.len() {
            assert_eq!(seal.open(&token[..cut]), None);
        }
        let long = "A".repeat(MAX_TOKEN_BYTES + 1);
        for text in [&format!("{token}="), &format!(" {token}"), &format!("{token}\n"), &token.repeat(2), "é", &long] {
            assert_eq!(seal.open(text), None);
        }
    }

    #[test]
    fn the_largest_token_is_looked_at() {
        let name = "x".repeat(128);
        let legs =
            vec![
                Leg { expert: name.clone(), version: name.clone(), stage: MAX_LEGS, probability: 0.123_456, ..leg("") };
                MAX_LEGS
            ];
        // What JSON needs most room for.
        let claims = Claims { request_id: name, tenant: "\u{1}".repeat(1024), legs, ..claims() };
        let token = seal("clinic").close(&claims);
        assert!(token.len() <= MAX_TOKEN_BYTES, "{}", token.len());
        assert_eq!(seal("clinic").open(&token), Some(claims));
    }

    #[test]
    fn age_is_counted_from_the_answer() {
        let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let (claims, window) = (claims(), Duration::from_mins(1));
        let issued = claims.issued;
        for (now, is_older) in [(0, false), (issued - 1, false), (issued + 60_000, false), (issued + 60_001, true)] {
            assert_eq!(claims.are_older_than(window, at(now)), is_older, "{now}");
        }
        assert!(!claims.are_older_than(window, SystemTime::UNIX_EPOCH - Duration::from_secs(1)));
    }

    /// One to three changes, to the text or to the bytes behind it.
    fn mutate(token: &str, others: &[String], rng: &mut StdRng) -> String {
        let mut text = token.as_bytes().to_vec();
        if rng.random_range(0..2) == 0 {
            let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
            for _ in 0..rng.random_range(1..=3) {
                let at = rng.random_range(0..bytes.len());
                match rng.random_range(0..3) {
                    0 => bytes[at] ^= 1 << rng.random_range(0..8),
                    1 => bytes[at] = rng.random(),
                    _ => drop(bytes.splice(at..at, [rng.random()])),
                }
            }
            text = URL_SAFE_NO_PAD.encode(bytes).into_bytes();
        }
        for _ in 0..rng.random_range(1..=3) {
            let at = rng.random_range(0..=text.len());
            let to = rng.random_range(at..=text.len()).min(at + 16);
            match rng.random_range(0..5) {
                0 => text.truncate(at),
                1 => drop(text.drain(at..to)),
                2 => drop(text.splice(at..to, [*ALPHABET.choose(rng).unwrap()])),
                3 => drop(text.splice(at..to, [rng.random_range(0..128_u8)])),
                // The front of one token and the end of another.
                _ => drop(text.splice(at.., others.choose(rng).unwrap().bytes().skip(at))),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn a_million_changed_tokens_never_open() {
        let seal = seal("clinic");
        let refused = Claims { outcome: "REFUSED".into(), tenant: String::new(), legs: Vec::new(), ..claims() };
        let other = Claims { request_id: "0198".into(), legs: vec![leg("labs"), leg("pharmacy")], ..claims() };
        let tokens: Vec<_> = [claims(), refused, other].iter().map(|claims| seal.close(claims)).collect();
        let mut rng = StdRng::seed_from_u64(7);
        let (mut tried, mut whole) = (0, 0);
        for _ in 0..MUTATIONS {
            let changed = mutate(tokens.choose(&mut rng).unwrap(), &tokens, &mut rng);
            // Now and then changes undo each other.
            if tokens.contains(&changed) {
                whole += 1;
                continue;
            }
            assert_eq!(seal.open(&changed), None, "{changed}");
            tried += 1;
        }
        assert!(whole < MUTATIONS / 10, "{whole} of {MUTATIONS} were no changes");
        assert_eq!(tried + whole, MUTATIONS);
    }

    prop_compose! {
        fn any_leg()(
            expert in "[a-z-]{1,63}",
            version in "[a-zA-Z0-9._-]{1,128}",
            stage in 0..MAX_LEGS,
            // Six digits are what a router writes.
            probability in 0..=1_000_000_u32,
            answered: bool,
        ) -> Leg {
            Leg { expert, version, stage, probability: f64::from(probability) / 1e6, propensity: 1.0, answered }
        }
    }

    proptest! {
        #[test]
        fn what_was_said_comes_back(
            (request_id, tenant, gate_revision) in ("[!-~]{0,128}", "\\PC{0,64}", "[0-9a-f]{0,64}"),
            issued: u64,
            legs in prop::collection::vec(any_leg(), 0..4),
        ) {
            let claims = Claims { request_id, issued, tenant, outcome: "FALLBACK".into(), gate_revision, legs };
            let token = seal("clinic").close(&claims);
            prop_assert!(token.bytes().all(|byte| ALPHABET.contains(&byte)));
            prop_assert_eq!(seal("clinic").open(&token), Some(claims));
        }

        #[test]
        fn no_text_is_a_token(text in "\\PC{0,200}") {
            prop_assert_eq!(seal("clinic").open(&text), None);
        }
    }
}
