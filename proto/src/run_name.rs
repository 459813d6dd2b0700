//! Readable names for runs that were given none, the same on both sides of the wire. Pure.

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clever",
    "coral", "crisp", "curious", "daring", "dapper", "deft", "eager", "early", "fair", "fancy",
    "fleet", "fond", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "humble",
    "ivory", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry",
    "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite",
    "proud", "quick", "quiet", "rapid", "silent", "silver", "smart", "steady", "stoic", "sunny",
    "swift", "tidy", "vivid", "warm", "wise",
];

const ANIMALS: [&str; 64] = [
    "alpaca", "badger", "beaver", "bison", "bobcat", "camel", "caribou", "cheetah", "condor",
    "coyote", "crane", "deer", "dingo", "dolphin", "eagle", "egret", "elk", "falcon", "ferret",
    "finch", "fox", "gazelle", "gecko", "gibbon", "goose", "hare", "hawk", "heron", "ibex", "ibis",
    "jackal", "jaguar", "kestrel", "koala", "lemur", "leopard", "lizard", "llama", "lynx",
    "magpie", "marmot", "marten", "moose", "newt", "ocelot", "oriole", "osprey", "otter", "owl",
    "panda", "panther", "pelican", "penguin", "puffin", "raven", "robin", "seal", "stork", "swan",
    "tapir", "tern", "walrus", "wolf", "wombat",
];

/// A name such as `brave-otter-42`, always the same for one run; `run_id` are the bytes of its UUID.
pub fn made_name(run_id: [u8; 16]) -> String {
    // The last bytes of a UUIDv7 are random; the first are the time.
    let [.., number, animal, adjective] = run_id;
    let adjective = ADJECTIVES[usize::from(adjective) % ADJECTIVES.len()];
    let animal = ANIMALS[usize::from(animal) % ANIMALS.len()];
    format!("{adjective}-{animal}-{}", number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_stay() {
        let id = 0x0194_1f29_7c00_7000_8000_0000_002a_2f04_u128.to_be_bytes();
        assert_eq!(made_name(id), "brave-otter-42");
        assert_eq!(made_name(id), made_name(id));
        assert!(
            ADJECTIVES
                .iter()
                .chain(&ANIMALS)
                .all(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
        );
    }
}
