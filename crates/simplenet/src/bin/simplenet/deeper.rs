//! Pictures further down in the folder of good parts. They are not learnt from: a folder in it is as often `bad` or `old` as
//! `monday`, and a detector that has learnt from defects accepts them. A person has to hear of it.

use std::collections::BTreeSet;
use std::path::Path;

use simplenet::Source;

use crate::inputs;

/// Folders beside the images of good parts that have another purpose.
const OF_TESTS: [&str; 2] = ["test", "ground_truth"];
/// Folders that are named; the others are counted.
const NAMED: usize = 3;

/// What to say of images below the folder that `used` lie in; `None` where there are none. `good` is what was typed: a
/// folder of images, a category, or a glob, which says itself how far down it goes.
pub(crate) fn unused(good: &Path, used: &[Source]) -> Option<String> {
    if !good.is_dir() {
        return None;
    }
    let folder = used.first()?.path().parent()?;
    // It is a remark only: what cannot be read is not its concern.
    let all = inputs::folder(folder).images;
    let mut folders = BTreeSet::new();
    let mut images = 0;
    for input in &all {
        let below = input.path.strip_prefix(folder).ok()?.parent()?;
        let Some(first) = below.iter().next() else { continue };
        if !OF_TESTS.iter().any(|name| first == *name) {
            folders.insert(below.to_owned());
            images += 1;
        }
    }
    let names: Vec<String> = folders
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string())
        .collect();
    let rest = match folders.len() - names.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    // A glob would take the defects and the masks with them.
    let hint = if OF_TESTS.iter().any(|name| folder.join(name).exists()) {
        format!("if they are good parts too, move them to {}", folder.display())
    } else {
        let glob = folder.join("**").join("*");
        format!(
            "if they are good parts too, name all of them with a glob in quotes: '{}'",
            glob.display()
        )
    };
    (images > 0).then(|| {
        format!(
            "warning: {images} images in {} folders below {} are not used: {}{rest}\n\nhint: {hint}\n",
            folders.len(),
            folder.display(),
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_further_down_are_counted_and_those_of_tests_are_not() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        for name in [
            "0.png",
            "test/bad/1.png",
            "ground_truth/bad/1.png",
            "monday/2.png",
            "monday/3.png",
            "old/a/4.png",
            "notes/readme.txt",
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(root.path()))?;
            std::fs::write(path, "x")?;
        }
        let said = |good: &Path| Ok::<_, anyhow::Error>(unused(good, &inputs::training(good)?.0));
        let text = said(root.path())?.unwrap_or_default();
        assert!(text.starts_with("warning: 3 images in 2 folders below "), "{text}");
        assert!(text.contains(" are not used: monday, old/a\n\nhint: "), "{text}");
        assert_eq!(said(&root.path().join("monday"))?, None);
        assert!(text.contains("hint: if they are good parts too, move them"), "{text}");
        // Nothing else lies there, and the glob of the hint takes all.
        for name in OF_TESTS {
            std::fs::remove_dir_all(root.path().join(name))?;
        }
        let glob = root.path().join("**").join("*");
        let text = said(root.path())?.unwrap_or_default();
        assert!(text.contains(&format!("in quotes: '{}'", glob.display())), "{text}");
        assert_eq!((inputs::training(&glob)?.0.len(), said(&glob)?), (4, None));
        Ok(())
    }
}
