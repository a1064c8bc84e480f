//! Which columns of a table hold what.

use super::options::CompositionalKind::{self, SugarCrepe, Winoground};
use super::options::CompositionalOptions;
use crate::formats::column_names::{CAPTION_NAMES, IMAGE_NAMES};

/// Columns of captions that are wrong, the likeliest first.
const NEGATIVE_NAMES: [&str; 7] = [
    "negative_caption",
    "caption_negative",
    "neg_caption",
    "negative",
    "hard_negative",
    "false_caption",
    "foil",
];
/// Columns of what an example is about.
const CATEGORY_NAMES: [&str; 4] = ["category", "subset", "type", "collapsed_tag"];
const PAIRED_IMAGES: [&str; 2] = ["image_0", "image_1"];
const PAIRED_CAPTIONS: [&str; 2] = ["caption_0", "caption_1"];

/// The names of the columns to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub kind: CompositionalKind,
    /// One, or two of Winoground.
    pub images: Vec<String>,
    pub captions: [String; 2],
    pub category: Option<String>,
}

impl Columns {
    /// - names: of all columns.
    ///
    /// # Errors
    /// If one is missing, in words.
    pub fn choose(names: &[String], options: &CompositionalOptions) -> Result<Self, String> {
        let find = |name: &str| names.iter().find(|own| own.eq_ignore_ascii_case(name));
        let first = |known: &[&str]| known.iter().find_map(|name| find(name)).cloned();
        let both = |known: [&str; 2]| Some([find(known[0])?.clone(), find(known[1])?.clone()]);
        let available = || format!("its columns are `{}`", names.join("`, `"));
        let given = &options.image_columns;
        let images = match (options.kind, given.is_empty()) {
            (_, false) => given.clone(),
            (Some(SugarCrepe), true) => first(&IMAGE_NAMES).into_iter().collect(),
            (_, true) => match both(PAIRED_IMAGES) {
                Some(both) => both.to_vec(),
                None => first(&IMAGE_NAMES).into_iter().collect(),
            },
        };
        let kind = match images.len() {
            1 => SugarCrepe,
            2 => Winoground,
            0 => {
                let known = IMAGE_NAMES.join(", ");
                return Err(format!(
                    "{}; none is known for images ({known}; image_0 and image_1); give --image-columns",
                    available()
                ));
            }
            more => {
                return Err(format!(
                    "--image-columns names {more} columns; give one, or two for Winoground"
                ));
            }
        };
        if options.kind.is_some_and(|wanted| wanted != kind) {
            return Err(match kind {
                SugarCrepe => format!(
                    "a Winoground set needs two columns of images, image_0 and image_1, but {}; give \
                     --image-columns",
                    available()
                ),
                Winoground => {
                    "a SugarCrepe set has one column of images, but --image-columns names two"
                        .into()
                }
            });
        }
        let captions = match (&options.caption_columns[..], kind) {
            ([a, b], _) => Some([a.clone(), b.clone()]),
            ([], Winoground) => both(PAIRED_CAPTIONS),
            ([], SugarCrepe) => first(&CAPTION_NAMES)
                .zip(first(&NEGATIVE_NAMES))
                .map(<[String; 2]>::from),
            (more, _) => {
                let count = more.len();
                return Err(format!("--caption-columns names {count} columns; give two"));
            }
        };
        let captions = captions.ok_or_else(|| {
            let wanted = match kind {
                SugarCrepe => "a caption and a negative one (caption, negative_caption)",
                Winoground => "the captions of both images (caption_0, caption_1)",
            };
            format!(
                "{}; no two are known for {wanted}; give --caption-columns",
                available()
            )
        })?;
        let category = options
            .category_column
            .clone()
            .or_else(|| first(&CATEGORY_NAMES));
        let columns = Self {
            kind,
            images,
            captions,
            category,
        };
        let missing = columns.all().find(|name| !names.contains(name)).cloned();
        match missing {
            Some(missing) => Err(format!("no column `{missing}`; {}", available())),
            None => Ok(columns),
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.images
            .iter()
            .chain(&self.captions)
            .chain(&self.category)
    }
}
