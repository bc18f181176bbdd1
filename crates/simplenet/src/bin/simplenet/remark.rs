//! What a person should look at before trusting a detector.

use std::collections::BTreeMap;

use simplenet::Detector;
use simplenet::detector::Geometry;
use simplenet::detector::calibration::Contract;
use simplenet::detector::card::{Calibration, Card, Duplicate, Halved, HeldOut, Hygiene, ThresholdCard};
use simplenet::detector::shift::{Change, Rejects, Shift};

/// Below this share of the picture a person should know that the rest is not judged.
const SHARE_TO_MENTION: f64 = 0.9;
/// Pictures of which no pixel is as bright use too few of 256 grey levels.
const DARK: u8 = 64;
/// Of fewer held-out scores than this even the largest is passed by more than one good part in twenty, on average.
const FEW: usize = 20;
/// A threshold so many times the highest score of good parts, or so many times as far above it as it is above their median, is
/// rather a slip of the hand.
const FAR_TIMES: f32 = 3.0;
const FAR_DISTANCES: f32 = 10.0;
/// Where half of the pictures make good ones score as much higher, more pictures are worth the trouble.
const MUCH_HIGHER: f32 = 1.1;
/// Lines of one kind; the others are counted.
const LINES: usize = 10;
/// Files of a group that are named; the others are counted.
const NAMED: usize = 5;

/// A line each.
pub(crate) fn lines(card: &Card, geometry: &Geometry) -> Vec<String> {
    let mut lines = Vec::new();
    for file in &card.data.unreadable {
        lines.push(left_out(&file.file, &file.error));
    }
    let [width, height] = card.data.size;
    if card.data.other_sizes > 0 {
        lines.push(format!(
            "warning: {} of {} images are not {width} x {height} pixels, the size that most have",
            card.data.other_sizes, card.data.images
        ));
    }
    if card.data.brightest < DARK {
        lines.push(format!(
            "warning: no pixel of any picture is brighter than {} of 255; where a camera has fewer bits than its files, as 12 of 16, scale its values up",
            card.data.brightest
        ));
    }
    if let Some(found) = &card.auto_stop {
        let rest = match found.epochs < found.most {
            true => "",
            false => " and had not settled; more --epochs may help",
        };
        lines.push(format!(
            "note: trained {} of {} epochs{rest}; `inspect --json` has the curve",
            found.epochs, found.most
        ));
    }
    lines.extend(suspects(&card.hygiene));
    lines.extend(without_suspects(card));
    lines.extend(lacking(&card.hygiene));
    lines.extend(duplicates(&card.hygiene.duplicates));
    lines.extend(more_pictures(&card.calibration));
    if card.hygiene.oscillates {
        lines.push("warning: training did not settle; try another --seed, or more --epochs".into());
    }
    let inspected = geometry.inspected();
    let share = (inspected.width * inspected.height) as f64 / (width * height) as f64;
    if share < SHARE_TO_MENTION {
        lines.push(format!(
            "note: of the {width} x {height} picture the middle {} x {} are judged ({:.0} %)",
            inspected.width,
            inspected.height,
            share * 100.0
        ));
    }
    lines.extend(unpromised(&card.calibration));
    lines
}

/// What a detector of so few pictures may be expected to do, where a person should not trust it.
pub(crate) fn few(calibration: &Calibration) -> Option<String> {
    unpromised(calibration).filter(|_| calibration.held_out.len() < FEW)
}

/// What to say of a threshold whose rate is not promised.
fn unpromised(calibration: &Calibration) -> Option<String> {
    let ThresholdCard::Contract(contract) = &calibration.threshold else {
        return None;
    };
    if contract.is_promised() {
        return None;
    }
    let remedy = match contract.more_images_needed() {
        0 => "--confident promises the target".to_string(),
        more => format!("{more} more images are needed to promise the target"),
    };
    let (kind, misses) = match contract.held_out < FEW {
        true => (
            "warning",
            ". Where good parts vary, defects are likely to be missed: good ones that it has not seen score as high",
        ),
        false => ("note", ""),
    };
    Some(format!(
        "{kind}: with {} held-out images the false-reject rate is at most {:.2} % with 95 % confidence; {remedy}{misses}",
        contract.held_out,
        contract.bound * 100.0
    ))
}

/// What to say of a threshold that was not chosen for a rate, where it would reject more of the good parts that the detector was
/// calibrated on than it was trained to. The best F1 among few good pictures and many defects rejects good parts without regret.
pub(crate) fn rejected(detector: &Detector) -> Option<String> {
    let Calibration {
        threshold, held_out, ..
    } = &detector.card().calibration;
    if matches!(threshold, ThresholdCard::Contract(_)) {
        return None;
    }
    let rejected = held_out.iter().filter(|image| image.score >= threshold.value()).count();
    let allowed = detector.config().max_false_reject;
    (rejected as f64 > allowed * held_out.len() as f64).then(|| {
        format!(
            "warning: {rejected} of the {} held-out scores of good parts are at or above {:.4}; the detector was trained for {:.2} % false rejects\n\nhint: `--max-false-reject RATE` chooses a threshold by good parts alone",
            held_out.len(),
            threshold.value(),
            100.0 * allowed
        )
    })
}

/// What to say of a limit for what is absent that good parts reach.
pub(crate) fn little_absent(detector: &Detector) -> Option<String> {
    let card = detector.card().calibration.absence?;
    let limit = card.limit.filter(|limit| *limit <= card.highest)?;
    Some(format!(
        "warning: good parts that were held out have an absence of up to {:.2}, and from {limit} on a picture is a defect\n\nhint: 1 is what \
         training chose",
        card.highest
    ))
}

/// What to say of a threshold that a person has set so high that hardly anything is rejected.
pub(crate) fn far_above(detector: &Detector) -> Option<String> {
    let Calibration {
        threshold, held_out, ..
    } = &detector.card().calibration;
    let ThresholdCard::Fixed { threshold } = threshold else {
        return None;
    };
    let scores = Spread::of(held_out.iter().map(|image| image.score))?;
    scores.is_far_below(*threshold).then(|| {
        format!(
            "warning: {threshold:.4} is far above all held-out scores of good parts (highest {:.4}): by its score hardly anything is rejected\n\nhint: \
             scores are those that `predict` reports",
            scores.highest
        )
    })
}

/// The same of one for pixels, or where most good pictures have a pixel that is marked.
pub(crate) fn pixels(detector: &Detector) -> Option<String> {
    let Calibration {
        pixel_threshold,
        held_out,
        ..
    } = &detector.card().calibration;
    let peaks = Spread::of(held_out.iter().map(|image| image.peak))?;
    let hint = "hint: `inspect --json` has the highest pixel of each held-out picture (peak)";
    if peaks.is_far_below(*pixel_threshold) {
        return Some(format!(
            "warning: {pixel_threshold:.4} is far above all pixels of held-out pictures of good parts (highest {:.4}): hardly any pixel is \
             marked\n\n{hint}",
            peaks.highest
        ));
    }
    let marked = held_out.iter().filter(|image| image.peak >= *pixel_threshold).count();
    (2 * marked > held_out.len()).then(|| {
        format!(
            "warning: {marked} of the {} held-out pictures of good parts have pixels at or above {pixel_threshold:.4}, which are marked\n\n{hint}",
            held_out.len()
        )
    })
}

/// Where values of good parts lie.
struct Spread {
    median: f32,
    highest: f32,
}

impl Spread {
    /// `None` without any.
    fn of(values: impl Iterator<Item = f32>) -> Option<Spread> {
        let mut sorted: Vec<f32> = values.collect();
        sorted.sort_by(f32::total_cmp);
        Some(Spread {
            median: *sorted.get(sorted.len() / 2)?,
            highest: *sorted.last()?,
        })
    }

    fn is_far_below(&self, value: f32) -> bool {
        let distance = self.highest - self.median;
        let is_many_distances = distance > 0.0 && value - self.highest > FAR_DISTANCES * distance;
        is_many_distances || self.highest > 0.0 && value > FAR_TIMES * self.highest
    }
}

/// What to say of a file that cannot be read. Most reasons name it.
pub(crate) fn left_out(file: &str, error: &str) -> String {
    let reason = error.lines().next().unwrap_or_default();
    match reason.contains(file) {
        true => format!("warning: left out: {reason}"),
        false => format!("warning: left out {file}: {reason}"),
    }
}

/// What to say of labelled pictures that were learnt from.
pub(crate) fn learnt_from(files: &[&str], labelled: usize) -> Option<String> {
    let first = files.first()?;
    let are = if files.len() == 1 { "is" } else { "are" };
    Some(format!(
        "{} of {labelled} labelled pictures {are} among those that were learnt from, such as {first}: they score lower than parts that \
         the detector has not seen, and say nothing of these",
        files.len()
    ))
}

/// What to say where the scores of a line have become higher than those of training, or are as before.
pub(crate) fn shift(change: &Change) -> String {
    let (Change::Begins(Shift { scores, above }) | Change::Ends(Shift { scores, above })) = change;
    let percent = 100.0 * above;
    match change {
        Change::Begins(_) => format!(
            "warning: the last {scores} pictures score higher than those that were learnt from: {percent:.0} % of them are above the median \
             of the held-out scores, where it should be half. Light, camera or material may have changed, and then the threshold \
             rejects more good parts than it promises\n\nhint: look at them; if they are good, train again with some of them"
        ),
        Change::Ends(_) => {
            format!(
                "note: the last {scores} pictures score as those that were learnt from again ({percent:.0} % above the median)"
            )
        }
    }
}

/// What to say where a line rejects unusually many pictures, or no longer does.
pub(crate) fn rejects(change: &Change<Rejects>) -> String {
    let (Change::Begins(rejects) | Change::Ends(rejects)) = change;
    let Rejects {
        pictures,
        rejected,
        rate,
    } = rejects;
    match change {
        Change::Begins(_) => format!(
            "warning: {rejected} of the last {pictures} pictures were rejected; of good parts like those that were learnt from it should be at \
             most {:.1} %. Process, light or camera may have changed\n\nhint: look at the latest of them before more parts are made",
            100.0 * rate
        ),
        Change::Ends(_) => {
            format!("note: rejects are no longer unusually many: {rejected} of the last {pictures} pictures")
        }
    }
}

/// How far a score is beyond the fence is said, because the fence is a rule of thumb and a score just beyond it is no news.
fn suspects(hygiene: &Hygiene) -> Vec<String> {
    let lines = hygiene.suspects.iter().map(|suspect| {
        format!(
            "warning: {} looks unlike the other good parts (held-out score {:.3}, {:.3} above the {:.3} from where on a score stands out); is it one?",
            suspect.file,
            suspect.score,
            suspect.score - suspect.fence,
            suspect.fence
        )
    });
    capped(lines.collect(), "images that look unlike the others", "suspects")
}

/// Without the part a picture may have a low score, and be learnt as what a good one may look like.
fn lacking(hygiene: &Hygiene) -> Vec<String> {
    let lines = hygiene.lacking.iter().map(|image| {
        format!(
            "warning: {} lacks what the other good parts show ({:.1} times as much as usual); is the part there? Until it is one of many or \
             elsewhere, pictures without the part may pass",
            image.file, image.times_usual
        )
    });
    capped(lines.collect(), "images that lack what the others show", "lacking")
}

/// Where a detector has not seen enough good parts it finds new ones as odd as defects, and its threshold lies above both.
fn more_pictures(calibration: &Calibration) -> Option<String> {
    let halved = calibration
        .halved
        .filter(|halved| halved.mean.max(halved.highest) > MUCH_HIGHER)?;
    Some(format!(
        "warning: more pictures would help: learnt from half as many, good parts score {}; with more of them the threshold falls further",
        higher(&halved)
    ))
}

/// How much higher good parts score that a detector has not seen, where it has learnt from half as many.
pub(crate) fn higher(halved: &Halved) -> String {
    let [mean, highest] = [halved.mean, halved.highest].map(|ratio| 100.0 * (ratio - 1.0));
    format!("{mean:+.0} % (the highest tenth of them {highest:+.0} %)")
}

/// What the threshold would be if the suspects were no good parts: one defect among them can raise it to its own score.
fn without_suspects(card: &Card) -> Option<String> {
    let ThresholdCard::Contract(contract) = &card.calibration.threshold else {
        return None;
    };
    let suspects = &card.hygiene.suspects;
    let is_suspect = |image: &HeldOut| {
        suspects
            .iter()
            .any(|suspect| suspect.file == image.file && suspect.score == image.score)
    };
    let others = card.calibration.held_out.iter().filter(|image| !is_suspect(image));
    let scores: Vec<f32> = others.map(|image| image.score).collect();
    let without = Contract::new(&scores, contract.max_false_reject, contract.confident).ok()?;
    (!suspects.is_empty() && without.threshold < contract.threshold).then(|| {
        format!(
            "warning: without what looks unlike the others the threshold would be about {:.4}, and not {:.4}: if these are no good parts, move them elsewhere and train again",
            without.threshold, contract.threshold
        )
    })
}

fn duplicates(pairs: &[Duplicate]) -> Vec<String> {
    let lines = groups(pairs).into_iter().map(|group| {
        let named = group.files[..group.files.len().min(NAMED)].join(", ");
        let rest = match group.files.len() - group.files.len().min(NAMED) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        let how = if group.is_exact { "" } else { "nearly " };
        format!("warning: {} images are {how}the same: {named}{rest}", group.files.len())
    });
    capped(
        lines.collect(),
        "groups of images that are the same, or nearly",
        "duplicates",
    )
}

/// The first lines, and how many there are more. `key` is where the detector file has them.
fn capped(mut lines: Vec<String>, what: &str, key: &str) -> Vec<String> {
    if lines.len() > LINES {
        let rest = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!(
            "warning: and {rest} more {what}; `inspect --json` has all (card.hygiene.{key})"
        ));
    }
    lines
}

/// Images that are the same, or nearly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    pub(crate) files: Vec<&'a str>,
    /// Not only nearly.
    pub(crate) is_exact: bool,
}

/// The groups that pairs make: who is a duplicate of one in a group belongs to it. In the order of the pairs.
pub(crate) fn groups(pairs: &[Duplicate]) -> Vec<Group<'_>> {
    // The number of each file's group; groups that turn out to be one are joined under the lower number.
    let mut group_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for pair in pairs {
        let (first, second) = (pair.first.as_str(), pair.second.as_str());
        let known = [first, second].map(|file| group_of.get(file).copied());
        let target = match known {
            [Some(a), Some(b)] => a.min(b),
            [Some(a), None] | [None, Some(a)] => a,
            [None, None] => {
                groups.push(Group {
                    files: Vec::new(),
                    is_exact: true,
                });
                groups.len() - 1
            }
        };
        for (file, known) in [first, second].into_iter().zip(known) {
            let moved = match known {
                Some(group) if group == target => Vec::new(),
                Some(group) => {
                    groups[target].is_exact &= groups[group].is_exact;
                    std::mem::take(&mut groups[group].files)
                }
                // Of two files with one name, in different folders, the group has the name once.
                None if group_of.get(file) == Some(&target) => Vec::new(),
                None => vec![file],
            };
            for file in moved {
                group_of.insert(file, target);
                groups[target].files.push(file);
            }
        }
        groups[target].is_exact &= pair.distance == 0.0;
    }
    groups.retain(|group| !group.files.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use simplenet::detector::card::Suspect;

    use super::*;

    fn pair(first: &str, second: &str, distance: f32) -> Duplicate {
        Duplicate {
            first: first.into(),
            second: second.into(),
            distance,
        }
    }

    #[test]
    fn twenty_copies_are_one_line() {
        let names: Vec<String> = (0..20).map(|index| format!("{index}.png")).collect();
        let mut pairs: Vec<Duplicate> = names
            .iter()
            .enumerate()
            .flat_map(|(index, first)| names[index + 1..].iter().map(move |second| pair(first, second, 0.0)))
            .collect();
        assert_eq!(pairs.len(), 190);
        assert_eq!(
            duplicates(&pairs),
            ["warning: 20 images are the same: 0.png, 1.png, 2.png, 3.png, 4.png and 15 more"]
        );
        pairs.push(pair("a.png", "b.png", 0.1));
        assert_eq!(
            duplicates(&pairs)[1],
            "warning: 2 images are nearly the same: a.png, b.png"
        );
    }

    #[test]
    fn groups_that_a_pair_joins_become_one() {
        let pairs = [
            pair("a", "b", 0.0),
            pair("c", "d", 0.0),
            pair("b", "d", 0.1),
            pair("e", "f", 0.0),
        ];
        let found = groups(&pairs);
        assert_eq!(
            found,
            [
                Group {
                    files: vec!["a", "b", "c", "d"],
                    is_exact: false
                },
                Group {
                    files: vec!["e", "f"],
                    is_exact: true
                }
            ]
        );
    }

    #[test]
    fn the_rest_of_many_lines_is_counted_and_a_suspect_says_by_how_much() {
        let suspect = |index: usize| Suspect {
            file: format!("{index}.png"),
            score: 23.96,
            fence: 23.85,
        };
        let hygiene = Hygiene {
            suspects: (0..14).map(suspect).collect(),
            lacking: Vec::new(),
            duplicates: Vec::new(),
            oscillates: false,
        };
        let lines = suspects(&hygiene);
        assert_eq!(lines.len(), LINES + 1);
        assert!(lines[0].contains("23.960, 0.110 above the 23.850"), "{}", lines[0]);
        assert!(
            lines[LINES].starts_with("warning: and 4 more") && lines[LINES].contains("card.hygiene.suspects"),
            "{}",
            lines[LINES]
        );
    }
}
