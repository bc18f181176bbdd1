//! Whether pictures still score as those did that the detector learnt from.

use std::collections::VecDeque;

use super::Detector;

/// Scores that are looked at, the latest ones.
const WINDOW: usize = 200;
/// With fewer nothing is said.
const FEWEST: usize = 50;
/// An alarm begins so many standard deviations above what is expected, and ends below fewer.
const BEGINS: f64 = 4.0;
const ENDS: f64 = 2.0;

/// Watches the scores of a line. A lamp that ages, a camera that moves or another batch of material raises those of good
/// parts long before all of them are rejected.
///
/// # Method
/// Of scores like the held-out ones half lie above the median of these. Of n new scores and m held-out ones the share above
/// has, where nothing has changed, a mean of 1/2 and a variance of about (1/n + 1/m) / 4 (the median test: Mood 1950). The
/// median hardly moves with the defects among the new ones, as long as they are few. Only higher scores are an alarm: the
/// detector has seen more pictures than the models that made the held-out scores, so that lower ones are usual. With fewer than
/// 18 held-out scores (24 while there are only 50 new ones) no share is large enough for an alarm.
#[derive(Debug, Clone)]
pub struct ShiftAlarm {
    median: f32,
    held_out: usize,
    /// Whether each of the latest scores is above the median, the oldest first.
    above: VecDeque<bool>,
    is_alarmed: bool,
}

/// A change of what [`ShiftAlarm`] says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Scores have become higher than those of training.
    Begins(Shift),
    /// They are as in training again.
    Ends(Shift),
}

/// How the latest scores lie to the held-out ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// How many there are.
    pub scores: usize,
    /// The share of them above the median of the held-out ones; 1/2 where nothing has changed.
    pub above: f64,
}

impl ShiftAlarm {
    /// For the pictures that a detector judges.
    pub fn new(detector: &Detector) -> ShiftAlarm {
        let held_out = &detector.card().calibration.held_out;
        ShiftAlarm::of(held_out.iter().map(|image| image.score).collect())
    }

    /// The same, with the held-out scores in any order.
    pub fn of(mut held_out: Vec<f32>) -> ShiftAlarm {
        held_out.sort_by(f32::total_cmp);
        ShiftAlarm {
            median: held_out.get(held_out.len() / 2).copied().unwrap_or(f32::INFINITY),
            held_out: held_out.len(),
            above: VecDeque::with_capacity(WINDOW),
            is_alarmed: false,
        }
    }

    /// Takes the score of the next picture, and says where that changes something.
    pub fn add(&mut self, score: f32) -> Option<Change> {
        if self.above.len() == WINDOW {
            self.above.pop_front();
        }
        self.above.push_back(score > self.median);
        let scores = self.above.len();
        if scores < FEWEST || self.held_out == 0 {
            return None;
        }
        let above = self.above.iter().filter(|&&above| above).count() as f64 / scores as f64;
        let deviation = 0.5 * (1.0 / scores as f64 + 1.0 / self.held_out as f64).sqrt();
        let (shift, distance) = (Shift { scores, above }, (above - 0.5) / deviation);
        match self.is_alarmed {
            false if distance > BEGINS => {
                self.is_alarmed = true;
                Some(Change::Begins(shift))
            }
            true if distance < ENDS => {
                self.is_alarmed = false;
                Some(Change::Ends(shift))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 that fill it evenly.
    fn even(count: usize) -> impl Iterator<Item = f32> {
        (0..count).map(|index| (index as f32 * 0.618_034) % 1.0)
    }

    #[test]
    fn scores_like_those_of_training_are_no_alarm_and_neither_are_a_few_defects() {
        for (held_out, defects) in [(40, 0), (200, 0), (200, 10)] {
            let mut alarm = ShiftAlarm::of(even(held_out).collect());
            for (index, score) in even(2000).enumerate() {
                let is_defect = defects > 0 && index % defects == 0;
                assert_eq!(alarm.add(if is_defect { 9.0 } else { score }), None, "score {index}");
            }
        }
    }

    #[test]
    fn an_alarm_begins_with_higher_scores_once_and_ends_when_they_are_as_before() {
        let mut alarm = ShiftAlarm::of(even(200).collect());
        let mut changes = Vec::new();
        let moved = even(300).map(|score| score + 0.3);
        for (index, score) in even(300).chain(moved).chain(even(400)).enumerate() {
            changes.extend(alarm.add(score).map(|change| (index, change)));
        }
        let [(begins, Change::Begins(higher)), (ends, Change::Ends(normal))] = changes[..] else {
            panic!("one alarm, not {changes:?}");
        };
        assert!((300..600).contains(&begins) && higher.above > 0.65, "{changes:?}");
        assert!((600..800).contains(&ends) && normal.above < 0.65, "{changes:?}");
    }

    #[test]
    fn lower_scores_and_too_few_are_no_alarm() {
        let mut alarm = ShiftAlarm::of(even(200).collect());
        assert!(even(500).all(|score| alarm.add(score - 1.0).is_none()));
        let mut alarm = ShiftAlarm::of(even(200).collect());
        assert!((1..FEWEST).all(|_| alarm.add(9.0).is_none()));
        assert!(matches!(
            alarm.add(9.0),
            Some(Change::Begins(Shift { scores: FEWEST, .. }))
        ));
        for (held_out, alarms) in [(0, 0), (17, 0), (18, 1)] {
            let mut alarm = ShiftAlarm::of(even(held_out).collect());
            assert_eq!(
                (0..500).filter_map(|_| alarm.add(9.0)).count(),
                alarms,
                "{held_out} held-out scores"
            );
        }
    }
}
