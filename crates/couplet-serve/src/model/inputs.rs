//! Images and texts of requests, checked before anything is computed.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use couplet_data::labelled::prepare;
use couplet_data::{ImageData, with_causes};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::served::Served;
use super::worker::Input;
use crate::api_error::ApiError;

/// Characters of a text at most: far more than a model's context.
const MOST_CHARACTERS: usize = 20_000;

/// An image or a text of a request, in any of the forms that programs send: a text, an image as a data URL, either under its name,
/// or a part of a message of chat models.
#[derive(Debug)]
pub(super) enum RawInput {
    Text(String),
    Image(String),
}

/// The keys of an input that is an object; others are passed over.
#[derive(Debug, Deserialize)]
struct Fields {
    text: Option<String>,
    image: Option<String>,
    image_url: Option<ImageUrl>,
}

/// `{"url": …}`, or the URL itself.
#[derive(Debug)]
struct ImageUrl(String);

impl<'de> Deserialize<'de> for RawInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Input;

        impl<'de> Visitor<'de> for Input {
            type Value = RawInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object with text, image or image_url")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawInput, E> {
                Ok(RawInput::of_text(text.to_string()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<RawInput, E> {
                Ok(RawInput::of_text(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawInput, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                match (fields.text, fields.image, fields.image_url) {
                    (Some(text), None, None) => Ok(RawInput::Text(text)),
                    (None, Some(image), None) | (None, None, Some(ImageUrl(image))) => {
                        Ok(RawInput::Image(image))
                    }
                    _ => Err(A::Error::custom(
                        "expected one of text, image and image_url",
                    )),
                }
            }
        }

        deserializer.deserialize_any(Input)
    }
}

impl<'de> Deserialize<'de> for ImageUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Url;

        #[derive(Deserialize)]
        struct Object {
            url: String,
        }

        impl<'de> Visitor<'de> for Url {
            type Value = ImageUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or an object with url")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<ImageUrl, E> {
                Ok(ImageUrl(url.to_string()))
            }

            fn visit_string<E: Error>(self, url: String) -> Result<ImageUrl, E> {
                Ok(ImageUrl(url))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageUrl, A::Error> {
                let Object { url } = Object::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ImageUrl(url))
            }
        }

        deserializer.deserialize_any(Url)
    }
}

/// A text, or the bytes of an image.
#[derive(Debug)]
pub(super) enum Checked {
    Text(String),
    Image(Vec<u8>),
}

impl RawInput {
    fn of_text(text: String) -> Self {
        if text.starts_with("data:image/") {
            Self::Image(text)
        } else {
            Self::Text(text)
        }
    }

    /// - param: the key of the request, for errors.
    pub fn check(self, param: &str) -> Result<Checked, ApiError> {
        match self {
            Self::Text(text) => checked_text(text, param).map(Checked::Text),
            Self::Image(url) => image_bytes(&url, param).map(Checked::Image),
        }
    }
}

pub(super) fn checked_text(text: String, param: &str) -> Result<String, ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::invalid(param, "the text is empty"));
    }
    if text.len() > MOST_CHARACTERS {
        let message = format!(
            "the text has {} bytes of at most {MOST_CHARACTERS}",
            text.len()
        );
        return Err(ApiError::invalid(param, message));
    }
    Ok(text)
}

/// The bytes of `data:image/png;base64,…`.
pub(super) fn image_bytes(url: &str, param: &str) -> Result<Vec<u8>, ApiError> {
    const EXPECTED: &str = "expected an image as data:image/…;base64,…; the server fetches nothing from other addresses";
    let data = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','));
    let (kind, data) = data.ok_or_else(|| ApiError::invalid(param, EXPECTED))?;
    if !kind.ends_with(";base64") {
        return Err(ApiError::invalid(param, EXPECTED));
    }
    STANDARD.decode(data.trim()).map_err(|error| {
        ApiError::invalid(param, format!("the image is not valid base64: {error}"))
    })
}

impl Served {
    /// Decodes an image and transforms it as for evaluation.
    pub(super) fn pixels(&self, bytes: Vec<u8>, param: &str) -> Result<Vec<u8>, ApiError> {
        let image = ImageData::Encoded(bytes);
        prepare(image, self.encoder.transform(), self.limits.pixels)
            .map_err(|error| ApiError::invalid(param, format!("the image cannot be used: {error}")))
    }

    /// Checks that the tokenizer has ids for a text.
    /// - returns their number.
    pub(super) fn tokens_of(&self, text: &str, param: &str) -> Result<usize, ApiError> {
        let tokens = self.encoder.tokens().map_err(|error| {
            ApiError::invalid(
                param,
                format!("the model takes no texts: {}", with_causes(&error)),
            )
        })?;
        let ids = tokens.encode(text);
        let ids = ids.map_err(|error| ApiError::invalid(param, with_causes(&error)))?;
        if ids.is_empty() {
            let message = format!("the tokenizer has no ids for `{text}`");
            return Err(ApiError::invalid(param, message));
        }
        Ok(ids.len())
    }

    /// The features of an input.
    pub(super) async fn features(
        self: &Arc<Self>,
        input: Checked,
        param: &'static str,
    ) -> Result<Vec<f32>, ApiError> {
        let input = self.compute(move |own| own.prepared(input, param).map(|(input, _)| input));
        let mut features = self.worker.encode(vec![input.await?]).await?;
        Ok(features.remove(0))
    }

    /// What the model takes of an input, and the number of its tokens.
    pub(super) fn prepared(&self, input: Checked, param: &str) -> Result<(Input, usize), ApiError> {
        match input {
            Checked::Image(bytes) => Ok((Input::Pixels(self.pixels(bytes, param)?), 0)),
            Checked::Text(text) => {
                let tokens = self.tokens_of(&text, param)?;
                Ok((Input::Text(text), tokens))
            }
        }
    }
}
