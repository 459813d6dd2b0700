//! Branches of a run: which chunks of a series each of them shows.
//!
//! Invariant: the number of a chunk says which branch it was logged to and when: greater numbers were logged later. A branch
//! shows its own points and, of its parent, those of steps below the one it begins with. Pure.

use crate::tracking::entity::run_branch;

/// Bits of a chunk number that count the chunks of one branch.
const CHUNK_BITS: u32 = 40;

/// The number of the first chunk that is logged to a branch.
pub(super) fn first_number(branch: i32) -> i64 {
    i64::from(branch) << CHUNK_BITS
}

/// The branch that the chunk of this number was logged to; none for -1, which stands for no chunk.
pub(super) fn of_chunk(number: i64) -> Option<i32> {
    i32::try_from(number >> CHUNK_BITS)
        .ok()
        .filter(|branch| *branch >= 0)
}

/// What one branch shows: parts of itself and of those it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// Branches, each with the greatest step that is shown of it.
    parts: Vec<(i32, i64)>,
}

impl View {
    /// What the branch of this number shows; `branches` are those of the run. A number that is not there shows nothing.
    pub(crate) fn new(branch: i32, branches: &[run_branch::Model]) -> Self {
        let mut parts = Vec::new();
        let (mut number, mut end_step) = (branch, i64::MAX);
        loop {
            let row = branches.iter().find(|row| row.number == number);
            if row.is_none() && number != 0 {
                break;
            }
            parts.push((number, end_step));
            // A parent is older, so this comes to an end.
            let Some(row) = row.filter(|row| row.parent < number) else {
                break;
            };
            let Some(below) = row.from_step.checked_sub(1) else {
                break;
            };
            end_step = end_step.min(below);
            number = row.parent;
        }
        Self { parts }
    }

    /// The same without the points from `from_step` on.
    pub(super) fn below(mut self, from_step: i64) -> Self {
        match from_step.checked_sub(1) {
            Some(below) => {
                for (_, end_step) in &mut self.parts {
                    *end_step = below.min(*end_step);
                }
            }
            None => self.parts.clear(),
        }
        self
    }

    /// The greatest step that is shown of a chunk; `None` when nothing is.
    pub(super) fn end_step(&self, chunk: i64) -> Option<i64> {
        let branch = of_chunk(chunk)?;
        self.parts
            .iter()
            .find(|(number, _)| *number == branch)
            .map(|(_, end_step)| *end_step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn branch(number: i32, parent: i32, from_step: i64) -> run_branch::Model {
        run_branch::Model {
            run_id: Uuid::nil(),
            number,
            parent,
            from_step,
            request_id: Uuid::nil(),
            created_at: 0,
        }
    }

    #[test]
    fn numbers_tell_their_branch() {
        assert_eq!(of_chunk(-1), None);
        for number in [0, 1, 7, i32::MAX >> 9] {
            assert_eq!(of_chunk(first_number(number)), Some(number));
            assert_eq!(of_chunk(first_number(number + 1) - 1), Some(number));
        }
    }

    #[test]
    fn a_branch_at_the_least_step_shares_nothing() {
        let view = View::new(1, &[branch(1, 0, i64::MIN)]);
        assert_eq!(view.end_step(first_number(1)), Some(i64::MAX));
        assert_eq!(view.end_step(0), None);
        assert_eq!(View::new(5, &[]).end_step(first_number(5)), None);
    }

    proptest! {
        /// Against the plain meaning: what is visible is copied whenever a branch begins.
        #[test]
        fn shows_what_a_copy_would(
            from_steps in prop::collection::vec((0i64..20, any::<prop::sample::Index>()), 0..6),
        ) {
            let mut branches: Vec<run_branch::Model> = Vec::new();
            // Each branch logs the steps 0 to 19 once.
            let own = |number: i32| (0i64..20).map(move |step| (number, step));
            let mut copies: Vec<Vec<(i32, i64)>> = vec![own(0).collect()];
            for (from_step, parent) in from_steps {
                let number = i32::try_from(copies.len()).unwrap();
                let parent = parent.index(copies.len());
                branches.push(branch(number, i32::try_from(parent).unwrap(), from_step));
                let mut copy: Vec<(i32, i64)> = copies[parent].clone();
                copy.retain(|(_, step)| *step < from_step);
                copy.extend(own(number));
                copies.push(copy);
            }
            for (number, copy) in (0..).zip(&copies) {
                let view = View::new(number, &branches);
                let mut shown: Vec<(i32, i64)> = (0..)
                    .take(copies.len())
                    .flat_map(own)
                    .filter(|(of, step)| view.end_step(first_number(*of)).is_some_and(|end| *step <= end))
                    .collect();
                let mut copy = copy.clone();
                copy.sort_unstable();
                shown.sort_unstable();
                prop_assert_eq!(shown, copy);
            }
        }
    }
}
