//! What goes wrong when the board of `plate` is assembled and printed.

use super::Damage;
use super::lettering::Lettering;
use super::photograph::Surface;
use super::plate::{Board, CATEGORY, TITLE};
use super::plate_part::{BOARD_HEIGHT, Package};
use super::random::Random;
use super::shape::{Blob, Point, Scratch, blend, subtract, tilt};

const COPPER: [f32; 3] = [0.80, 0.42, 0.25];
const BARE_LAMINATE: [f32; 3] = [0.34, 0.32, 0.17];

pub(super) enum Defect {
    MissingPart { part: usize },
    ShiftedPart { part: usize, shift: Point, turn: Point },
    Misprint(Misprint),
    Scratch { groove: Scratch },
}

/// How the title came out.
pub(super) struct Misprint {
    title: Lettering,
    shift: Point,
    /// Where the squeegee left no ink.
    void: Option<Blob>,
    /// How far the wet ink was dragged, in pixels.
    drag: f32,
}

impl Misprint {
    fn new(severity: f32, random: &mut Random) -> Self {
        let title = Lettering::new(&[TITLE]);
        let along = TITLE.at[0] + random.between(25.0, 75.0);
        match random.below(3) {
            0 => {
                let void = Blob::new([along, TITLE.at[1]], 9.0 + 16.0 * severity, 0.4, random);
                Self {
                    title,
                    shift: [0.0, 0.0],
                    void: Some(void),
                    drag: 0.0,
                }
            }
            1 => Self {
                title,
                shift: [0.0, 0.0],
                void: None,
                drag: 3.5 + 10.0 * severity,
            },
            _ => {
                let [x, y] = random.direction();
                let reach = 2.5 + 3.5 * severity;
                Self {
                    title,
                    shift: [reach * x, reach * y],
                    void: None,
                    drag: 0.0,
                }
            }
        }
    }

    fn ink(&self, q: Point) -> f32 {
        const TRAIL: usize = 8;
        if self.void.as_ref().is_some_and(|void| void.distance(q) < 0.0) {
            return 0.0;
        }
        let q = subtract(q, self.shift);
        let printed = self.title.ink(q);
        if self.drag == 0.0 {
            return printed;
        }
        let trail = (1..=TRAIL).map(|step| {
            let share = step as f32 / TRAIL as f32;
            (0.75 - 0.45 * share)
                * self
                    .title
                    .ink([q[0] - share * self.drag, q[1] - 0.25 * share * self.drag])
        });
        trail.fold(printed, f32::max)
    }
}

impl Defect {
    pub(super) fn new(damage: &Damage, board: &Board) -> Self {
        let mut random = damage.random.clone();
        let severity = damage.severity;
        match CATEGORY.defects[damage.kind] {
            "missing_part" => Self::MissingPart {
                part: board.choose(severity > 0.75, &mut random),
            },
            "shifted_part" => {
                let part = board.choose(random.below(5) == 0, &mut random);
                let [x, y] = random.direction();
                let reach = 2.0 + 3.5 * severity;
                let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
                Self::ShiftedPart {
                    part,
                    shift: [reach * x, reach * y],
                    turn: tilt(sign * (0.15 + 0.75 * severity)),
                }
            }
            "misprint" => Self::Misprint(Misprint::new(severity, &mut random)),
            _ => {
                // Below or left of the parts there is bare board to scratch.
                let middle = if random.below(2) == 0 {
                    [random.between(-50.0, 45.0), random.between(44.0, 54.0)]
                } else {
                    [random.between(-66.0, -46.0), random.between(-30.0, 40.0)]
                };
                let axis = tilt(random.around(1.2));
                let groove = Scratch::new(
                    middle,
                    axis,
                    26.0 + 50.0 * severity,
                    1.7 + 1.6 * severity,
                    1.2,
                    &mut random,
                );
                Self::Scratch { groove }
            }
        }
    }

    /// The board as it was assembled with this defect.
    pub(super) fn assemble(&self, board: &Board) -> Board {
        let mut altered = board.clone();
        match self {
            Self::MissingPart { part } => altered.parts[*part].present = false,
            Self::ShiftedPart { part, shift, turn } => {
                let part = &mut altered.parts[*part];
                let [x, y] = part.axis;
                part.axis = [x * turn[0] - y * turn[1], x * turn[1] + y * turn[0]];
                part.centre = [part.centre[0] + shift[0], part.centre[1] + shift[1]];
            }
            Self::Misprint(_) | Self::Scratch { .. } => {}
        }
        altered
    }

    /// The sample at `p`, flagged where it differs from that of the flawless `board`.
    pub(super) fn surface(&self, p: Point, board: &Board, altered: &Board) -> Surface {
        let title = match self {
            Self::Misprint(misprint) => Some(misprint.ink(board.place(p))),
            _ => None,
        };
        let [before, after] = [board.sample(p, None), altered.sample(p, title)];
        let mut surface = after.surface;
        surface.damaged = match self {
            Self::MissingPart { part } | Self::ShiftedPart { part, .. } => {
                before.part == Some(*part)
                    || after.part == Some(*part)
                    || (before.surface.height - after.surface.height).abs() > 0.4
            }
            Self::Misprint(_) => (before.ink - after.ink).abs() > 0.25,
            Self::Scratch { .. } => false,
        };
        if let Self::Scratch { groove } = self
            && (surface.height - BOARD_HEIGHT).abs() < 1.0
            && let Some(groove) = groove.groove(board.place(p))
        {
            // The tool goes through the green mask: to copper where a track runs, else to the laminate.
            let bed = if before.copper > 0.5 { COPPER } else { BARE_LAMINATE };
            surface.albedo = blend(surface.albedo, bed, groove.depth.min(0.5) * 1.9);
            surface.metal = surface.metal.max(if before.copper > 0.5 { groove.depth } else { 0.0 });
            surface.roughness = [0.42; 2];
            surface.height += 0.25 * groove.burr - 0.6 * groove.depth;
            surface.damaged = true;
        }
        surface
    }
}

impl Board {
    /// A part that can go astray: one of the tall cans, or one of the small parts.
    fn choose(&self, large: bool, random: &mut Random) -> usize {
        let fits = |index: &usize| match self.parts[*index].package {
            Package::Can => large,
            Package::Resistor | Package::Capacitor => !large,
            Package::Chip => false,
        };
        let candidates: Vec<usize> = (0..self.parts.len()).filter(fits).collect();
        candidates[random.below(candidates.len())]
    }
}
