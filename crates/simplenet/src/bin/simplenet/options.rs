//! The library speaks of its configuration; a person who typed options hears of those.

use simplenet::Error;
use simplenet_backbone::BackboneError;

/// Key of the configuration and option of `simplenet train`.
const OPTIONS: [(&str, &str); 12] = [
    ("features.stages", "--layers"),
    ("preprocess.resize", "--resize"),
    ("overlap", "--overlap"),
    ("max-vectors", "--vectors"),
    ("folds", "--folds"),
    ("max-false-reject", "--max-false-reject"),
    ("epochs", "--epochs"),
    ("hidden", "--hidden"),
    ("head.hidden", "--hidden"),
    ("noise", "--noise"),
    ("roi", "--roi"),
    ("ignore", "--ignore"),
];

/// What an error says, with the options in place of the keys. `square` is the option that sets the side of a square.
pub(crate) fn explain(error: &Error, square: &str) -> String {
    if let Error::Backbone(BackboneError::NotEmbedded(arch)) = error {
        return format!(
            "the weights of {arch} are not in this program\n\nhint: name its checkpoint with `--weights FILE`, or leave `--backbone` out"
        );
    }
    let text = error.to_string();
    let is_about_keys = matches!(
        error,
        Error::Config(_) | Error::TooFewImages { .. } | Error::Heads(simplenet_heads::Error::Config { .. })
    );
    if !is_about_keys {
        return text;
    }
    let options = OPTIONS.into_iter().chain([("preprocess.crop", square)]);
    options.fold(text, |text, (key, option)| {
        text.replace(&format!("`{key}`"), &format!("`{option}`"))
    })
}
