//! Some records that are delivered together, as the calls that do it.
//!
//! Invariant: the calls of one run come in the order of its records, and runs begin in the order in which they were begun
//! (a run may be nested in another one). Records of several runs that log at the same time are gathered per run. Pure.

use std::{collections::HashMap, ops::Range, sync::Arc};

use mlplat_proto::tracking::v1 as pb;
use prost::Message as _;

use super::{
    folder::Position,
    frame,
    reader::{Definitions, Numbered},
    record::{Id, Metrics, Record, RunDefinition, Series},
};

/// Most points, bytes and records of a window: more would cost memory here and time in one transaction there.
const MOST_POINTS: usize = 100_000;
const MOST_BYTES: usize = 3 << 20;
const MOST_RECORDS: usize = 50_000;
/// What the server takes in one batch, with a margin.
const MOST_KEYS: usize = 9_000;
const MOST_TEXT: usize = 2 << 20;
const MOST_LABELS: usize = 9_000;

/// A record in a window.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) number: u64,
    bytes: Range<usize>,
}

/// One thing to do, or one kind of thing for records that follow each other.
#[derive(Debug)]
pub(super) enum Step {
    /// Records of one run, at least one.
    Log(Vec<Piece>),
    /// The run begins or goes on.
    Open(Piece),
    End(Piece),
    /// Something about the run that is a call of its own: its inputs, its name.
    Call(Piece),
    Artifact(Piece),
    /// Not understood by this version.
    Unknown(Piece),
}

/// What to do for which run.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) run: RunDefinition,
    pub(super) step: Step,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    pub(super) calls: Vec<Call>,
    /// Where records of a run can be added.
    open: HashMap<uuid::Uuid, usize>,
    pub(super) records: u64,
    pub(super) points: u64,
    /// Where the journal goes on behind it.
    pub(super) end: Position,
}

impl Window {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.calls.clear();
        self.open.clear();
        (self.records, self.points) = (0, 0);
    }

    pub(super) fn is_full(&self) -> bool {
        self.points as usize >= MOST_POINTS
            || self.bytes.len() >= MOST_BYTES
            || self.records as usize >= MOST_RECORDS
    }

    /// Adds a record.
    pub(super) fn push(&mut self, numbered: &Numbered<'_>, definitions: &Definitions) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(numbered.frame);
        self.records += 1;
        let piece = Piece {
            number: numbered.number,
            bytes: start..self.bytes.len(),
        };
        let points = match &numbered.record {
            Record::Metrics(metrics) => metrics.len(),
            Record::Series(series) => series.count,
            _ => 0,
        };
        self.points += points as u64;
        let run = numbered.record.run();
        let defined = run.and_then(|run| definitions.run(run));
        let run = defined.unwrap_or(RunDefinition {
            run: uuid::Uuid::nil(),
            own: false,
            origin: None,
        });
        let step = match numbered.record {
            _ if defined.is_none() => Step::Unknown(piece),
            Record::Open { .. } => Step::Open(piece),
            Record::End { .. } => Step::End(piece),
            Record::Artifact { .. } => Step::Artifact(piece),
            Record::Inputs { .. } | Record::Update { .. } => Step::Call(piece),
            Record::Metrics(_) | Record::Series(_) | Record::Batch { .. } => {
                return self.push_log(run, piece);
            }
            _ => Step::Unknown(piece),
        };
        self.open.remove(&run.run);
        self.calls.push(Call { run, step });
    }

    fn push_log(&mut self, run: RunDefinition, piece: Piece) {
        if let Some(&at) = self.open.get(&run.run)
            && let Some(Call {
                step: Step::Log(pieces),
                ..
            }) = self.calls.get_mut(at)
        {
            return pieces.push(piece);
        }
        self.open.insert(run.run, self.calls.len());
        let step = Step::Log(vec![piece]);
        self.calls.push(Call { run, step });
    }

    /// The frame of a record.
    pub(super) fn frame(&self, piece: &Piece) -> &[u8] {
        &self.bytes[piece.bytes.clone()]
    }

    pub(super) fn record(&self, piece: &Piece) -> Record<'_> {
        let frame = frame::parse(self.frame(piece)).ok();
        frame.and_then(Record::read).unwrap_or(Record::Unknown)
    }

    /// The batch for the first of some records of one run, and how many of them it holds: at least one.
    pub(super) fn batch(
        &self,
        pieces: &[Piece],
        definitions: &Definitions,
    ) -> (pb::LogBatchRequest, usize) {
        let mut batch = Batch::new(definitions);
        let mut count = 0;
        for piece in pieces {
            if count > 0 && batch.is_full() {
                break;
            }
            match self.record(piece) {
                Record::Metrics(metrics) => batch.metrics(&metrics),
                Record::Series(series) => batch.series(&series),
                Record::Batch { message, .. } => batch.other(message),
                _ => {}
            }
            count += 1;
        }
        batch.message.first_sequence = pieces.first().map_or(0, |piece| piece.number);
        batch.message.sequence = pieces[..count].last().map_or(0, |piece| piece.number);
        (batch.message, count)
    }
}

/// A batch that grows.
struct Batch<'a> {
    message: pb::LogBatchRequest,
    definitions: &'a Definitions,
    /// Per key the place in `message.metrics` of its last part, plus one.
    places: Vec<u32>,
    keys: usize,
    text: usize,
}

impl<'a> Batch<'a> {
    fn new(definitions: &'a Definitions) -> Self {
        Self {
            message: pb::LogBatchRequest::default(),
            definitions,
            places: vec![0; definitions.keys()],
            keys: 0,
            text: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.keys >= MOST_KEYS
            || self.text >= MOST_TEXT
            || self.message.params.len() >= MOST_LABELS
            || self.message.tags.len() >= MOST_LABELS
    }

    /// The part of a key that such points can be added to: a part has steps for all of its points or for none.
    fn part(&mut self, key: Id, with_steps: bool) -> Option<&mut pb::MetricSeries> {
        let name: &Arc<str> = self.definitions.key(key)?;
        let place = self.places.get_mut(key as usize)?;
        let fits = match place.checked_sub(1) {
            Some(at) => self.message.metrics[at as usize].steps.is_empty() != with_steps,
            None => {
                self.keys += 1;
                false
            }
        };
        if !fits {
            self.message.metrics.push(pb::MetricSeries {
                key: name.to_string(),
                ..Default::default()
            });
            *place = self.message.metrics.len() as u32;
        }
        self.message.metrics.get_mut(*place as usize - 1)
    }

    fn metrics(&mut self, metrics: &Metrics<'_>) {
        for (key, value) in metrics.pairs() {
            if let Some(part) = self.part(key, metrics.step.is_some()) {
                part.steps.extend(metrics.step);
                part.timestamps_us.push(metrics.timestamp_us);
                part.values.push(value);
            }
        }
    }

    fn series(&mut self, series: &Series<'_>) {
        if series.count == 0 {
            return;
        }
        if let Some(part) = self.part(series.key, !series.steps.is_absent()) {
            series.steps.expand(series.count, &mut part.steps);
            series
                .timestamps_us
                .expand(series.count, &mut part.timestamps_us);
            part.values.extend(series.values());
        }
    }

    fn other(&mut self, message: &[u8]) {
        let Ok(other) = pb::LogBatchRequest::decode(message) else {
            return;
        };
        self.text += message.len();
        self.message.params.extend(other.params);
        self.message.tags.extend(other.tags);
    }
}
