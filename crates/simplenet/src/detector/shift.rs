//! Whether pictures still score as those did that the detector learnt from, and whether a line rejects unusually many.

use std::collections::VecDeque;

use super::Detector;
use super::calibration::{at_most, upper_bound};
use super::card::ThresholdCard;

/// Scores that are looked at, the latest ones.
const WINDOW: usize = 200;
/// With fewer nothing is said.
const FEWEST: usize = 50;
/// An alarm begins so many standard deviations above what is expected, and ends below fewer.
const BEGINS: f64 = 4.0;
const ENDS: f64 = 2.0;

/// Verdicts that are looked at, the latest ones: few enough that trouble shows soon.
const VERDICTS: usize = 50;
/// An alarm begins where more than this share of them are rejects, and where that would be as rare among good parts; it ends with a
/// smaller share, or one that would not be rare.
const MANY: f64 = 0.2;
const RARE: f64 = 1e-4;
const NOT_MANY: f64 = 0.1;
const NOT_RARE: f64 = 0.02;

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

/// A change of what [`ShiftAlarm`] or [`RejectAlarm`] says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<T = Shift> {
    /// Scores have become higher than those of training, or rejects many.
    Begins(T),
    /// They are as in training again.
    Ends(T),
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

/// Watches the verdicts of a line. Many rejects among few parts are rarely as many defects that have nothing to do with each other: a
/// machine, a lamp or a camera is out of order, and somebody should look.
///
/// # Method
/// Of good parts like those that the detector learnt from at most a share p is rejected, by the bound that the held-out scores give at
/// 95 % confidence (Clopper & Pearson 1934). An alarm begins where k of the last 50 pictures are rejected, more than a fifth of
/// them, and a binomial variable with that p would reach k less often than once in ten thousand. Where few pictures were learnt from p is
/// large, and it takes more rejects.
#[derive(Debug, Clone)]
pub struct RejectAlarm {
    rate: f64,
    /// Whether each of the latest pictures was rejected, the oldest first.
    rejected: VecDeque<bool>,
    is_alarmed: bool,
}

/// How many of the latest pictures were rejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rejects {
    /// How many pictures there are.
    pub pictures: usize,
    /// How many of them were rejected.
    pub rejected: usize,
    /// The share of good parts that may be, at most.
    pub rate: f64,
}

impl RejectAlarm {
    /// For the pictures that a detector judges.
    pub fn new(detector: &Detector) -> RejectAlarm {
        let calibration = &detector.card().calibration;
        RejectAlarm::of(match &calibration.threshold {
            ThresholdCard::Contract(contract) => contract.bound,
            threshold => {
                let scores = calibration.held_out.iter().map(|image| image.score);
                let rejected = scores.filter(|score| *score >= threshold.value()).count();
                upper_bound(rejected, calibration.held_out.len())
            }
        })
    }

    /// The same, where at most a share `rate` of good parts is rejected.
    pub fn of(rate: f64) -> RejectAlarm {
        RejectAlarm {
            rate,
            rejected: VecDeque::with_capacity(VERDICTS),
            is_alarmed: false,
        }
    }

    /// Takes the verdict on the next picture, and says where that changes something.
    pub fn add(&mut self, is_rejected: bool) -> Option<Change<Rejects>> {
        if self.rejected.len() == VERDICTS {
            self.rejected.pop_front();
        }
        self.rejected.push_back(is_rejected);
        if self.rejected.len() < VERDICTS {
            return None;
        }
        let rejected = self.rejected.iter().filter(|&&is_rejected| is_rejected).count();
        let share = rejected as f64 / VERDICTS as f64;
        let chance = match rejected.checked_sub(1) {
            Some(fewer) => 1.0 - at_most(fewer, VERDICTS, self.rate),
            None => 1.0,
        };
        let rejects = Rejects {
            pictures: VERDICTS,
            rejected,
            rate: self.rate,
        };
        match self.is_alarmed {
            false if share > MANY && chance < RARE => {
                self.is_alarmed = true;
                Some(Change::Begins(rejects))
            }
            true if share < NOT_MANY || chance > NOT_RARE => {
                self.is_alarmed = false;
                Some(Change::Ends(rejects))
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

    #[test]
    fn many_rejects_are_an_alarm_once_and_its_end_is_said_once() {
        let mut alarm = RejectAlarm::of(0.02);
        let mut changes = Vec::new();
        // One in ten is a line with defects, one in two is trouble.
        for index in 0..600 {
            let is_rejected = index % if (200..300).contains(&index) { 2 } else { 10 } == 0;
            changes.extend(alarm.add(is_rejected).map(|change| (index, change)));
        }
        let [(begins, Change::Begins(many))] = changes[..] else {
            panic!("one alarm, not {changes:?}");
        };
        assert!((200..230).contains(&begins) && many.rejected == 11, "{changes:?}");
        let ends: Vec<_> = (0..100).filter_map(|_| alarm.add(false)).collect();
        assert!(
            matches!(ends[..], [Change::Ends(Rejects { rejected: 4, .. })]),
            "{ends:?}"
        );
    }

    /// Of ten pictures the bound is 26 %, of two it is 78 %.
    #[test]
    fn where_good_parts_may_be_rejected_it_takes_more() {
        for (rate, least) in [(0.0143, 11), (0.26, 26), (0.78, 49), (1.0, 51)] {
            let rejects = |rejected: usize| {
                let mut alarm = RejectAlarm::of(rate);
                let verdicts = (0..VERDICTS).map(|index| index < rejected);
                verdicts.filter_map(|is_rejected| alarm.add(is_rejected)).count()
            };
            let found = (0..=VERDICTS).find(|&rejected| rejects(rejected) > 0);
            assert_eq!(found.unwrap_or(VERDICTS + 1), least, "{rate}");
        }
        let mut alarm = RejectAlarm::of(0.02);
        assert!((1..VERDICTS).all(|_| alarm.add(true).is_none()));
        assert!(matches!(
            alarm.add(true),
            Some(Change::Begins(Rejects { rejected: 50, .. }))
        ));
    }
}
