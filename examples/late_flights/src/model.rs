//! Logistic regression over one-hot features, by stochastic gradient descent. Pure: it knows no tracking.

use serde::{Deserialize, Serialize};

use crate::data::Flight;

/// A weight for each feature, one for the distance, and a bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    weights: Vec<f64>,
    distance: f64,
    bias: f64,
}

/// How well a model does on some flights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean of -log p of what happened.
    pub loss: f64,
    /// How often a late flight gets a higher probability than one in time.
    pub auc: f64,
}

impl Model {
    pub fn new(features: usize) -> Self {
        Self {
            weights: vec![0.0; features],
            distance: 0.0,
            bias: 0.0,
        }
    }

    /// The probability that a flight is late.
    pub fn predict(&self, flight: &Flight) -> f64 {
        let weights: f64 = flight
            .active
            .iter()
            .map(|&feature| self.weights[feature as usize])
            .sum();
        let logit = self.bias + self.distance * flight.distance + weights;
        1.0 / (1.0 + (-logit).exp())
    }

    /// One step down the gradient of a batch; the loss before it.
    pub fn learn(&mut self, batch: &[&Flight], learning_rate: f64) -> f64 {
        let rate = learning_rate / batch.len() as f64;
        let before = self.clone();
        let mut loss = 0.0;
        for flight in batch {
            let probability = before.predict(flight);
            loss += log_loss(probability, flight.late);
            let slope = rate * (probability - f64::from(u8::from(flight.late)));
            for &feature in &flight.active {
                self.weights[feature as usize] -= slope;
            }
            self.distance -= slope * flight.distance;
            self.bias -= slope;
        }
        loss / batch.len() as f64
    }

    pub fn score(&self, flights: &[Flight]) -> Score {
        let mut predicted: Vec<(f64, bool)> = flights
            .iter()
            .map(|flight| (self.predict(flight), flight.late))
            .collect();
        let loss: f64 = predicted
            .iter()
            .map(|&(probability, late)| log_loss(probability, late))
            .sum();
        Score {
            loss: loss / predicted.len() as f64,
            auc: auc(&mut predicted),
        }
    }

    /// How late flights really were, by what was predicted: share of late flights in each of `buckets` equal ranges of the
    /// probability; NaN where nothing was predicted.
    pub fn calibration(&self, flights: &[Flight], buckets: usize) -> Vec<f64> {
        let mut counts = vec![(0.0, 0.0); buckets];
        for flight in flights {
            let at = ((self.predict(flight) * buckets as f64) as usize).min(buckets - 1);
            counts[at].0 += f64::from(u8::from(flight.late));
            counts[at].1 += 1.0;
        }
        counts.iter().map(|(late, all)| late / all).collect()
    }
}

fn log_loss(probability: f64, late: bool) -> f64 {
    let happened = if late { probability } else { 1.0 - probability };
    -happened.max(1e-12).ln()
}

/// By ranks, where equal predictions share their mean rank.
fn auc(predicted: &mut [(f64, bool)]) -> f64 {
    predicted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut late_ranks, mut late) = (0.0, 0.0);
    let mut start = 0;
    for group in predicted.chunk_by(|a, b| a.0 == b.0) {
        let among = group.iter().filter(|(_, was_late)| *was_late).count() as f64;
        late_ranks += among * (start as f64 + (group.len() as f64 + 1.0) / 2.0);
        late += among;
        start += group.len();
    }
    let in_time = predicted.len() as f64 - late;
    (late_ranks - late * (late + 1.0) / 2.0) / (late * in_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(feature: u32, late: bool) -> Flight {
        Flight {
            active: [feature; 6],
            distance: 1.0,
            late,
        }
    }

    #[test]
    fn it_learns_what_can_be_learned() {
        let flights = [flight(0, true), flight(1, false)];
        let batch: Vec<&Flight> = flights.iter().collect();
        let mut model = Model::new(2);
        let first = model.learn(&batch, 0.5);
        assert!((first - std::f64::consts::LN_2).abs() < 1e-12);
        for _ in 0..100 {
            model.learn(&batch, 0.5);
        }
        let score = model.score(&flights);
        assert!(score.loss < 0.05 && score.auc == 1.0, "{score:?}");
    }

    #[test]
    fn a_step_follows_the_gradient() {
        let flights = [flight(0, true), flight(1, false), flight(1, true)];
        let batch: Vec<&Flight> = flights.iter().collect();
        let mut model = Model::new(2);
        model.learn(&batch, 0.3);
        let loss = |model: &Model| model.score(&flights).loss;
        let (before, tiny) = (model.clone(), 1e-6);
        model.learn(&batch, tiny);
        let moved: f64 = [
            (model.bias - before.bias).powi(2),
            (model.distance - before.distance).powi(2),
        ]
        .iter()
        .chain(
            before
                .weights
                .iter()
                .zip(&model.weights)
                .map(|(a, b)| (a - b).powi(2))
                .collect::<Vec<_>>()
                .iter(),
        )
        .sum();
        // Moved by `tiny` times the gradient, the loss falls by `tiny` times its square.
        let fallen = (loss(&before) - loss(&model)) / tiny;
        assert!(
            (fallen - moved / (tiny * tiny)).abs() < 1e-3,
            "{fallen} {moved}"
        );
    }

    #[test]
    fn auc_counts_ties_half() {
        assert_eq!(auc(&mut [(0.1, false), (0.9, true)]), 1.0);
        assert_eq!(auc(&mut [(0.9, false), (0.1, true)]), 0.0);
        assert_eq!(
            auc(&mut [(0.5, false), (0.5, true), (0.5, true), (0.5, false)]),
            0.5
        );
    }

    #[test]
    fn a_model_survives_its_file() {
        let mut model = Model::new(2);
        model.learn(&[&flight(0, true)], 0.1);
        let text = serde_json::to_string(&model).expect("written");
        assert_eq!(serde_json::from_str::<Model>(&text).expect("read"), model);
    }
}
