//! Records: what the payloads of frames mean. Pure.
//!
//! Invariant: records that are numbered are counted in the order in which they lie, from the number in the header of their
//! segment; definitions and headers are not counted. Runs and metric keys are written once per segment, and meant by
//! small numbers from then on. No payload makes [`Record::read`] panic.

use uuid::Uuid;

use super::frame::{self, Fields, Frame, put_signed, put_varint};

const HEADER: u8 = 1;
const RUN: u8 = 2;
const KEY: u8 = 3;
/// Kinds from here on are numbered, those of later versions included.
const FIRST_NUMBERED: u8 = 16;
const METRICS: u8 = 16;
const SERIES: u8 = 17;
const BATCH: u8 = 18;
const OPEN: u8 = 19;
const END: u8 = 20;
const ARTIFACT: u8 = 21;
const INPUTS: u8 = 22;
const UPDATE: u8 = 23;

/// The version of the format that this crate writes.
pub(super) const FORMAT: u64 = 1;

/// Small number of a run or a metric key within a journal.
pub(super) type Id = u32;

/// What was logged, or said about what follows.
#[derive(Debug, Clone)]
pub(super) enum Record<'a> {
    /// First in every segment: format, writer, number of the segment, number of its first record.
    Header { first: u64 },
    /// From here on `id` means this run.
    Run { id: Id, run: RunDefinition },
    /// From here on `id` means this metric key.
    Key { id: Id, key: &'a str },
    /// Values of some metrics at one moment.
    Metrics(Metrics<'a>),
    /// Many values of one metric.
    Series(Series<'a>),
    /// A `LogBatchRequest` with what else is logged: params, tags.
    Batch { run: Id, message: &'a [u8] },
    /// The run begins, or goes on: a `CreateRunRequest`, and a `ResumeRunRequest` where it may exist already.
    Open {
        run: Id,
        create: &'a [u8],
        resume: Option<&'a [u8]>,
    },
    /// An `EndRunRequest`.
    End { run: Id, message: &'a [u8] },
    /// A file in the folder of the journal that belongs to the run.
    Artifact {
        run: Id,
        spooled: &'a str,
        directory: &'a str,
        media_type: &'a str,
    },
    /// A `LogInputsRequest`.
    Inputs { run: Id, message: &'a [u8] },
    /// An `UpdateRunRequest`.
    Update { run: Id, message: &'a [u8] },
    /// Written by a later version, and not understood here.
    Unknown,
}

/// A run as a journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunDefinition {
    pub(super) run: Uuid,
    /// The process of the journal starts and ends it.
    pub(super) own: bool,
    /// The writer that the one of the journal is a part of: that of the process that it is forked off.
    pub(super) origin: Option<Uuid>,
}

/// Values of some metrics at one moment.
#[derive(Debug, Clone)]
pub(super) struct Metrics<'a> {
    pub(super) run: Id,
    pub(super) step: Option<i64>,
    pub(super) timestamp_us: i64,
    count: usize,
    pairs: Fields<'a>,
}

impl Metrics<'_> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Key and value, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Id, f64)> {
        let mut fields = self.pairs.clone();
        (0..self.count).map_while(move |_| Some((id(&mut fields)?, fields.f64()?)))
    }
}

/// Appends values of some metrics; `keys` are those of `values`.
pub(super) fn put_metrics(
    buffer: &mut Vec<u8>,
    run: Id,
    step: Option<i64>,
    timestamp_us: i64,
    keys: &[Id],
    values: impl Iterator<Item = f64>,
) {
    frame::append(buffer, METRICS, |buffer| {
        put_varint(buffer, u64::from(run) << 1 | u64::from(step.is_some()));
        if let Some(step) = step {
            put_signed(buffer, step);
        }
        buffer.extend_from_slice(&timestamp_us.to_le_bytes());
        put_varint(buffer, keys.len() as u64);
        for (key, value) in keys.iter().zip(values) {
            put_varint(buffer, u64::from(*key));
            buffer.extend_from_slice(&value.to_le_bytes());
        }
    });
}

/// A column of whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column<'a> {
    /// There is none.
    Absent,
    /// `start`, `start + stride`, …
    Even {
        start: i64,
        stride: i64,
    },
    Raw(&'a [u8]),
    Given(&'a [i64]),
}

impl<'a> Column<'a> {
    /// The shortest form of some numbers.
    pub(super) fn of(numbers: &'a [i64]) -> Self {
        let start = numbers.first().copied().unwrap_or_default();
        let stride = numbers
            .get(1)
            .map_or(0, |second| second.wrapping_sub(start));
        let even = numbers
            .windows(2)
            .all(|pair| pair[0].checked_add(stride) == Some(pair[1]));
        if even {
            Self::Even { start, stride }
        } else {
            Self::Given(numbers)
        }
    }

    fn put(self, buffer: &mut Vec<u8>) {
        match self {
            Self::Absent => buffer.push(0),
            Self::Even { start, stride } => {
                buffer.push(1);
                put_signed(buffer, start);
                put_signed(buffer, stride);
            }
            Self::Raw(bytes) => {
                buffer.push(2);
                buffer.extend_from_slice(bytes);
            }
            Self::Given(numbers) => {
                buffer.push(2);
                for number in numbers {
                    buffer.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
    }

    fn take(fields: &mut Fields<'a>, count: usize) -> Option<Self> {
        Some(match fields.byte()? {
            0 => Self::Absent,
            1 => Self::Even {
                start: fields.signed()?,
                stride: fields.signed()?,
            },
            2 => Self::Raw(fields.bytes(count.checked_mul(8)?)?),
            _ => return None,
        })
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Appends `count` numbers to `target`.
    pub(super) fn expand(&self, count: usize, target: &mut Vec<i64>) {
        match self {
            Self::Absent => {}
            Self::Even { start, stride } => {
                target.extend(
                    (0..count as i64).map(|at| start.wrapping_add(stride.wrapping_mul(at))),
                );
            }
            Self::Raw(bytes) => {
                let (chunks, _) = bytes.as_chunks::<8>();
                target.extend(chunks.iter().map(|chunk| i64::from_le_bytes(*chunk)));
            }
            Self::Given(numbers) => target.extend_from_slice(numbers),
        }
    }
}

/// Many values of one metric.
#[derive(Debug, Clone)]
pub(super) struct Series<'a> {
    pub(super) run: Id,
    pub(super) key: Id,
    pub(super) count: usize,
    pub(super) steps: Column<'a>,
    pub(super) timestamps_us: Column<'a>,
    values: &'a [u8],
}

impl Series<'_> {
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        let (chunks, _) = self.values.as_chunks::<8>();
        chunks.iter().map(|chunk| f64::from_le_bytes(*chunk))
    }
}

/// Appends many values of one metric.
pub(super) fn put_series(
    buffer: &mut Vec<u8>,
    run: Id,
    key: Id,
    steps: Column<'_>,
    timestamps_us: Column<'_>,
    values: &[f64],
) {
    frame::append(buffer, SERIES, |buffer| {
        put_varint(buffer, u64::from(run));
        put_varint(buffer, u64::from(key));
        put_varint(buffer, values.len() as u64);
        steps.put(buffer);
        timestamps_us.put(buffer);
        for value in values {
            buffer.extend_from_slice(&value.to_le_bytes());
        }
    });
}

pub(super) fn put_header(buffer: &mut Vec<u8>, writer: Uuid, segment: u64, first: u64) {
    frame::append(buffer, HEADER, |buffer| {
        put_varint(buffer, FORMAT);
        buffer.extend_from_slice(writer.as_bytes());
        put_varint(buffer, segment);
        put_varint(buffer, first);
    });
}

pub(super) fn put_run(buffer: &mut Vec<u8>, id: Id, run: RunDefinition) {
    frame::append(buffer, RUN, |buffer| {
        put_varint(buffer, u64::from(id));
        buffer.extend_from_slice(run.run.as_bytes());
        buffer.push(u8::from(run.own));
        if let Some(writer) = run.origin {
            buffer.extend_from_slice(writer.as_bytes());
        }
    });
}

pub(super) fn put_key(buffer: &mut Vec<u8>, id: Id, key: &str) {
    frame::append(buffer, KEY, |buffer| {
        put_varint(buffer, u64::from(id));
        put_text(buffer, key);
    });
}

pub(super) fn put_batch(buffer: &mut Vec<u8>, run: Id, message: &[u8]) {
    put_message(buffer, BATCH, run, message);
}

pub(super) fn put_inputs(buffer: &mut Vec<u8>, run: Id, message: &[u8]) {
    put_message(buffer, INPUTS, run, message);
}

pub(super) fn put_update(buffer: &mut Vec<u8>, run: Id, message: &[u8]) {
    put_message(buffer, UPDATE, run, message);
}

fn put_message(buffer: &mut Vec<u8>, kind: u8, run: Id, message: &[u8]) {
    frame::append(buffer, kind, |buffer| {
        put_varint(buffer, u64::from(run));
        buffer.extend_from_slice(message);
    });
}

pub(super) fn put_open(buffer: &mut Vec<u8>, run: Id, create: &[u8], resume: Option<&[u8]>) {
    frame::append(buffer, OPEN, |buffer| {
        put_varint(buffer, u64::from(run));
        put_varint(buffer, create.len() as u64);
        buffer.extend_from_slice(create);
        buffer.push(u8::from(resume.is_some()));
        buffer.extend_from_slice(resume.unwrap_or_default());
    });
}

pub(super) fn put_end(buffer: &mut Vec<u8>, run: Id, message: &[u8]) {
    put_message(buffer, END, run, message);
}

pub(super) fn put_artifact(
    buffer: &mut Vec<u8>,
    run: Id,
    spooled: &str,
    directory: &str,
    media_type: &str,
) {
    frame::append(buffer, ARTIFACT, |buffer| {
        put_varint(buffer, u64::from(run));
        put_text(buffer, spooled);
        put_text(buffer, directory);
        put_text(buffer, media_type);
    });
}

fn put_text(buffer: &mut Vec<u8>, text: &str) {
    put_varint(buffer, text.len() as u64);
    buffer.extend_from_slice(text.as_bytes());
}

fn id(fields: &mut Fields<'_>) -> Option<Id> {
    fields.varint()?.try_into().ok()
}

/// Whether a frame counts as a record.
pub(super) fn is_numbered(kind: u8) -> bool {
    kind >= FIRST_NUMBERED
}

impl<'a> Record<'a> {
    /// What a frame means; `None` when its payload does not fit its kind.
    pub(super) fn read(frame: Frame<'a>) -> Option<Self> {
        let mut fields = Fields(frame.payload);
        Some(match frame.kind {
            HEADER => header(&mut fields)?,
            RUN => Self::Run {
                id: id(&mut fields)?,
                run: RunDefinition {
                    run: Uuid::from_bytes(fields.array()?),
                    own: fields.byte()? != 0,
                    origin: fields.array().map(Uuid::from_bytes),
                },
            },
            KEY => Self::Key {
                id: id(&mut fields)?,
                key: fields.text()?,
            },
            METRICS => Self::Metrics(metrics(&mut fields)?),
            SERIES => Self::Series(series(&mut fields)?),
            BATCH => Self::Batch {
                run: id(&mut fields)?,
                message: fields.0,
            },
            OPEN => open(&mut fields)?,
            END => Self::End {
                run: id(&mut fields)?,
                message: fields.0,
            },
            ARTIFACT => Self::Artifact {
                run: id(&mut fields)?,
                spooled: fields.text()?,
                directory: fields.text()?,
                media_type: fields.text()?,
            },
            INPUTS => Self::Inputs {
                run: id(&mut fields)?,
                message: fields.0,
            },
            UPDATE => Self::Update {
                run: id(&mut fields)?,
                message: fields.0,
            },
            _ => Self::Unknown,
        })
    }

    /// The run that a record is about.
    pub(super) fn run(&self) -> Option<Id> {
        match self {
            Self::Metrics(metrics) => Some(metrics.run),
            Self::Series(series) => Some(series.run),
            Self::Batch { run, .. }
            | Self::Open { run, .. }
            | Self::End { run, .. }
            | Self::Artifact { run, .. }
            | Self::Inputs { run, .. }
            | Self::Update { run, .. } => Some(*run),
            Self::Header { .. } | Self::Run { .. } | Self::Key { .. } | Self::Unknown => None,
        }
    }
}

fn header<'a>(fields: &mut Fields<'a>) -> Option<Record<'a>> {
    if fields.varint()? != FORMAT {
        return None;
    }
    // Writer and segment are there for people who look into a file that has lost its name.
    let (_writer, _segment) = (fields.array::<16>()?, fields.varint()?);
    Some(Record::Header {
        first: fields.varint()?,
    })
}

fn metrics<'a>(fields: &mut Fields<'a>) -> Option<Metrics<'a>> {
    let run = fields.varint()?;
    Some(Metrics {
        run: (run >> 1).try_into().ok()?,
        step: match run & 1 {
            0 => None,
            _ => Some(fields.signed()?),
        },
        timestamp_us: fields.i64()?,
        count: fields.size()?,
        pairs: fields.clone(),
    })
}

fn series<'a>(fields: &mut Fields<'a>) -> Option<Series<'a>> {
    let (run, key, count) = (id(fields)?, id(fields)?, fields.size()?);
    Some(Series {
        run,
        key,
        count,
        steps: Column::take(fields, count)?,
        timestamps_us: Column::take(fields, count)?,
        values: fields.bytes(count.checked_mul(8)?)?,
    })
}

fn open<'a>(fields: &mut Fields<'a>) -> Option<Record<'a>> {
    let run = id(fields)?;
    let length = fields.size()?;
    Some(Record::Open {
        run,
        create: fields.bytes(length)?,
        resume: match fields.byte()? {
            0 => None,
            _ => Some(fields.0),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Record<'_> {
        Record::read(frame::parse(bytes).expect("a frame")).expect("a record")
    }

    proptest! {
        #[test]
        fn metrics_come_back_bit_by_bit(run: Id, step: Option<i64>, at: i64, pairs: Vec<(Id, u64)>) {
            let keys: Vec<Id> = pairs.iter().map(|pair| pair.0).collect();
            let mut bytes = Vec::new();
            put_metrics(&mut bytes, run, step, at, &keys, pairs.iter().map(|pair| f64::from_bits(pair.1)));
            let Record::Metrics(found) = read(&bytes) else { panic!("metrics") };
            prop_assert_eq!((found.run, found.step, found.timestamp_us), (run, step, at));
            let back: Vec<(Id, u64)> = found.pairs().map(|(key, value)| (key, value.to_bits())).collect();
            prop_assert_eq!(back, pairs);
        }

        #[test]
        fn series_come_back_bit_by_bit(points: Vec<(i64, i64, u64)>, even: bool, timed: bool) {
            let steps: Vec<i64> = (0..).zip(&points).map(|(at, p)| if even { 3 * at - 7 } else { p.0 }).collect();
            let times: Vec<i64> = points.iter().map(|p| p.1).collect();
            let values: Vec<f64> = points.iter().map(|p| f64::from_bits(p.2)).collect();
            let at = if timed { Column::of(&times) } else { Column::Absent };
            let mut bytes = Vec::new();
            put_series(&mut bytes, 1, 2, Column::of(&steps), at, &values);
            let Record::Series(found) = read(&bytes) else { panic!("a series") };
            let (mut s, mut t) = (Vec::new(), Vec::new());
            found.steps.expand(found.count, &mut s);
            found.timestamps_us.expand(found.count, &mut t);
            prop_assert_eq!(s, steps);
            prop_assert_eq!(t, if timed { times } else { Vec::new() });
            let bits = |v: f64| v.to_bits();
            prop_assert!(found.values().map(bits).eq(values.into_iter().map(bits)));
        }

        #[test]
        fn no_payload_makes_a_panic(kind: u8, payload: Vec<u8>) {
            if let Some(Record::Metrics(metrics)) = Record::read(Frame { kind, payload: &payload }) {
                metrics.pairs().for_each(drop);
            }
        }
    }
}
