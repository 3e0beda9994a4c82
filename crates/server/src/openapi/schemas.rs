//! The words that schemas are written in.

use serde_json::Value;
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr, Schema};

/// A schema, or the name of one.
pub(super) type SchemaRef = RefOr<Schema>;

/// A field of an object.
pub(super) type Field = (&'static str, SchemaRef);

fn of_type(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

/// The schema of this name.
pub(super) fn named(name: &str) -> SchemaRef {
    Ref::from_schema_name(name).into()
}

pub(super) fn anything() -> SchemaRef {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .into()
}

pub(super) fn null() -> SchemaRef {
    of_type(Type::Null).into()
}

pub(super) fn flag() -> SchemaRef {
    of_type(Type::Boolean).into()
}

pub(super) fn text() -> SchemaRef {
    of_type(Type::String).into()
}

/// Text of so many characters.
pub(super) fn text_of(least: usize, most: Option<usize>) -> SchemaRef {
    let text = of_type(Type::String).min_length(Some(least));
    text.max_length(most).into()
}

/// Text that is refused where there is any.
pub(super) fn no_text() -> SchemaRef {
    of_type(Type::String).max_length(Some(0)).into()
}

/// One of these texts.
pub(super) fn words<const N: usize>(words: [&str; N]) -> SchemaRef {
    of_type(Type::String).enum_values(Some(words)).into()
}

/// This value and no other.
pub(super) fn only(value: impl Into<Value>) -> SchemaRef {
    let any = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    any.enum_values(Some([value.into()])).into()
}

pub(super) fn number() -> SchemaRef {
    of_type(Type::Number).into()
}

/// A number in this range, both ends included.
pub(super) fn within(least: f64, most: f64) -> SchemaRef {
    let number = of_type(Type::Number).minimum(Some(least));
    number.maximum(Some(most)).into()
}

/// An integer in this range, both ends included.
pub(super) fn integer(least: isize, most: isize) -> SchemaRef {
    let number = of_type(Type::Integer).minimum(Some(least));
    number.maximum(Some(most)).into()
}

/// An integer as 64 bits hold it.
pub(super) fn any_integer() -> SchemaRef {
    integer(isize::MIN, isize::MAX)
}

/// A count as 64 bits hold it.
pub(super) fn any_count() -> SchemaRef {
    let number = of_type(Type::Integer).minimum(Some(0_usize));
    number.maximum(Some(usize::MAX)).into()
}

/// How many of something there are.
pub(super) fn count() -> SchemaRef {
    of_type(Type::Integer).minimum(Some(0_isize)).into()
}

/// The number of a token.
pub(super) fn token_id() -> SchemaRef {
    integer(0, u32::MAX as isize)
}

pub(super) fn list(items: SchemaRef) -> SchemaRef {
    ArrayBuilder::new().items(items).into()
}

/// A list of so many items.
pub(super) fn list_of(items: SchemaRef, least: usize, most: Option<usize>) -> SchemaRef {
    let list = ArrayBuilder::new().items(items).max_items(most);
    list.min_items(Some(least).filter(|least| *least > 0))
        .into()
}

/// Any of these.
pub(super) fn either<const N: usize>(kinds: [SchemaRef; N]) -> SchemaRef {
    let any = kinds
        .into_iter()
        .fold(AnyOfBuilder::new(), |any, kind| any.item(kind));
    any.into()
}

/// This or null, which is the same as leaving it out.
pub(super) fn maybe(kind: SchemaRef) -> SchemaRef {
    either([kind, null()])
}

/// An object with any names, and these values.
pub(super) fn map(values: SchemaRef) -> SchemaRef {
    let map = of_type(Type::Object);
    map.additional_properties(Some(AdditionalProperties::RefOr(values)))
        .into()
}

/// An object with these fields at least, of which some must be there; others are left out of account.
pub(super) fn object(
    fields: impl IntoIterator<Item = Field>,
    required: &[&'static str],
) -> SchemaRef {
    let with_fields = fields
        .into_iter()
        .fold(of_type(Type::Object), |object, field| {
            object.property(field.0, field.1)
        });
    let object = required
        .iter()
        .fold(with_fields, |object, name| object.required(*name));
    object.into()
}

/// An object that has all of these fields.
pub(super) fn answer(fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let object = fields
        .into_iter()
        .fold(of_type(Type::Object), |object, field| {
            object.required(field.0).property(field.0, field.1)
        });
    object.into()
}

/// An object that has all of the first fields, and may have the others.
pub(super) fn answer_with(
    fields: impl IntoIterator<Item = Field>,
    sometimes: impl IntoIterator<Item = Field>,
) -> SchemaRef {
    let object = fields
        .into_iter()
        .fold(of_type(Type::Object), |object, field| {
            object.required(field.0).property(field.0, field.1)
        });
    let object = sometimes
        .into_iter()
        .fold(object, |object, field| object.property(field.0, field.1));
    object.into()
}
