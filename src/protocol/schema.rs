//! Messages as tables: the `message!` macro, and the description of a message that it leaves
//! behind.
//!
//! One row a field: `VERSIONS => name: Type`, with `, null VERSIONS` where null is allowed in some
//! versions only, and `= value` where Kafka's default is not zero or empty. Rows after `tagged`
//! begin with their tag and go out only where they differ from their default. A field that a
//! version does not have keeps its default when read and is left out when written.

use super::wire::Version;
use std::ops::{RangeFrom, RangeInclusive};

/// The versions that have a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: i16,
    pub last: i16,
}

impl Span {
    /// Whether `number` is one of them.
    pub const fn contains(self, number: i16) -> bool {
        self.first <= number && number <= self.last
    }
}

/// A range as a table's row writes it, on its way to a [`Span`].
pub struct Versions<R>(pub R);

impl Versions<RangeFrom<i16>> {
    /// From the first version on.
    pub const fn span(self) -> Span {
        Span { first: self.0.start, last: i16::MAX }
    }
}

impl Versions<RangeInclusive<i16>> {
    /// From the first to the last version.
    pub const fn span(self) -> Span {
        Span { first: *self.0.start(), last: *self.0.end() }
    }
}

/// What a value is on the wire.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    F64,
    Uuid,
    ErrorCode,
    Text { nullable: bool },
    Bytes { nullable: bool },
    Records,
    Array { nullable: bool, item: &'static Kind },
    Struct(&'static Schema),
    NullableStruct(&'static Schema),
}

/// The rows of a message or of a structure in one.
#[derive(Debug)]
pub struct Schema {
    pub name: &'static str,
    pub fields: &'static [Field],
}

/// One row of a table.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub versions: Span,
    /// Where a nullable kind may be null, if not wherever the field is.
    pub nulls: Option<Span>,
    pub tag: Option<u32>,
}

impl Kind {
    /// The fewest bytes that a value takes in `version`: what bounds an array's count.
    pub fn bytes_min(&self, version: Version) -> usize {
        match self {
            Kind::Bool | Kind::I8 | Kind::NullableStruct(_) => 1,
            Kind::I16 | Kind::U16 | Kind::ErrorCode => 2,
            Kind::I32 => 4,
            Kind::I64 | Kind::F64 => 8,
            Kind::Uuid => 16,
            Kind::Text { .. } => {
                if version.flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Bytes { .. } | Kind::Records | Kind::Array { .. } => {
                if version.flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(schema) => schema.bytes_min(version),
        }
    }
}

impl Schema {
    fn bytes_min(&self, version: Version) -> usize {
        let plain = self.fields.iter().filter(|field| field.tag.is_none());
        let present = plain.filter(|field| field.versions.contains(version.number));
        let tags_count_bytes = usize::from(version.flexible);
        present.map(|field| field.kind.bytes_min(version)).sum::<usize>() + tags_count_bytes
    }
}

/// Declares a message or a structure of one: see the module's words.
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident $(<$lt:lifetime>)? {
            $($(#[$field_doc:meta])* $first:literal $dots:tt $($last:literal)?
                $(, null $null_first:literal $null_dots:tt $($null_last:literal)?)?
                => $field:ident: $kind:ty $(= $default:expr)?,)*
        }
        $(tagged {
            $($(#[$tag_doc:meta])*
                $tag:literal, $tag_first:literal $tag_dots:tt $($tag_last:literal)?
                => $tag_field:ident: $tag_kind:ty $(= $tag_default:expr)?,)*
        })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name $(<$lt>)? {
            $($(#[$field_doc])* pub $field: $kind,)*
            $($($(#[$tag_doc])* pub $tag_field: $tag_kind,)*)?
        }

        impl $(<$lt>)? Default for $name $(<$lt>)? {
            fn default() -> Self {
                $name {
                    $($field: $crate::protocol::schema::default_value!($($default)?),)*
                    $($($tag_field: $crate::protocol::schema::default_value!($($tag_default)?),)*)?
                }
            }
        }

        impl $(<$lt>)? $name $(<$lt>)? {
            /// The rows of this table.
            pub const SCHEMA: $crate::protocol::schema::Schema = $crate::protocol::schema::Schema {
                name: stringify!($name),
                fields: &[
                    $($crate::protocol::schema::Field {
                        name: stringify!($field),
                        kind: <$kind as $crate::protocol::wire::Wire<'_>>::KIND,
                        versions: $crate::protocol::schema::Versions($first $dots $($last)?).span(),
                        nulls: $crate::protocol::schema::nulls_span!(
                            $($null_first $null_dots $($null_last)?)?
                        ),
                        tag: None,
                    },)*
                    $($($crate::protocol::schema::Field {
                        name: stringify!($tag_field),
                        kind: <$tag_kind as $crate::protocol::wire::Wire<'_>>::KIND,
                        versions: $crate::protocol::schema::Versions(
                            $tag_first $tag_dots $($tag_last)?
                        )
                        .span(),
                        nulls: None,
                        tag: Some($tag),
                    },)*)?
                ],
            };
        }

        impl<'a> $crate::protocol::wire::Wire<'a> for $crate::protocol::schema::with_lifetime!(
            $name $(<$lt>)?
        ) {
            const KIND: $crate::protocol::schema::Kind =
                $crate::protocol::schema::Kind::Struct(&Self::SCHEMA);

            fn read(
                reader: &mut $crate::protocol::wire::Reader<'a>,
                version: $crate::protocol::wire::Version,
            ) -> Result<Self, $crate::protocol::wire::WireError> {
                #[allow(unused_imports)] // a table may have no row of its own
                use $crate::protocol::wire::Wire;
                let mut message = Self::default();
                $(if ($first $dots $($last)?).contains(&version.number) {
                    message.$field = $crate::protocol::schema::read_field!(
                        reader, version $(, $null_first $null_dots $($null_last)?)?
                    );
                })*
                if version.flexible {
                    reader.tags(|_tag, _body| {
                        $($(if _tag == $tag
                            && ($tag_first $tag_dots $($tag_last)?).contains(&version.number)
                        {
                            message.$tag_field = Wire::read(_body, version)?;
                            return Ok(true);
                        })*)?
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            fn write(
                &self,
                writer: &mut $crate::protocol::wire::Writer,
                version: $crate::protocol::wire::Version,
            ) {
                $(if ($first $dots $($last)?).contains(&version.number) {
                    $crate::protocol::schema::write_field!(
                        self.$field, writer, version $(, $null_first $null_dots $($null_last)?)?
                    );
                })*
                if version.flexible {
                    $crate::protocol::schema::write_tags!(
                        self, writer, version,
                        { $($($tag, $tag_first $tag_dots $($tag_last)?, $tag_field: $tag_kind,
                            ($($tag_default)?);)*)? }
                    );
                }
            }
        }
    };
}

/// Lets a structure stand where a message may hold null: a byte before it says which.
macro_rules! nullable {
    ($name:ident $(<$lt:lifetime>)?) => {
        impl<'a> $crate::protocol::wire::Wire<'a>
            for Option<$crate::protocol::schema::with_lifetime!($name $(<$lt>)?)>
        {
            const KIND: $crate::protocol::schema::Kind =
                $crate::protocol::schema::Kind::NullableStruct(&$name::SCHEMA);

            fn read(
                reader: &mut $crate::protocol::wire::Reader<'a>,
                version: $crate::protocol::wire::Version,
            ) -> Result<Self, $crate::protocol::wire::WireError> {
                if i8::read(reader, version)? < 0 {
                    return Ok(None);
                }
                $name::read(reader, version).map(Some)
            }

            fn write(
                &self,
                writer: &mut $crate::protocol::wire::Writer,
                version: $crate::protocol::wire::Version,
            ) {
                let marker: i8 = if self.is_some() { 1 } else { -1 };
                marker.write(writer, version);
                if let Some(present) = self {
                    present.write(writer, version);
                }
            }
        }
    };
}

macro_rules! with_lifetime {
    ($name:ident <$lt:lifetime>) => { $name<'a> };
    ($name:ident) => { $name };
}

macro_rules! default_value {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

macro_rules! nulls_span {
    () => {
        None
    };
    ($nulls:expr) => {
        Some($crate::protocol::schema::Versions($nulls).span())
    };
}

macro_rules! read_field {
    ($reader:expr, $version:expr) => {
        Wire::read($reader, $version)?
    };
    ($reader:expr, $version:expr, $nulls:expr) => {
        if ($nulls).contains(&$version.number) {
            Wire::read($reader, $version)?
        } else {
            Wire::read_present($reader, $version)?
        }
    };
}

macro_rules! write_field {
    ($field:expr, $writer:expr, $version:expr) => {
        $field.write($writer, $version)
    };
    ($field:expr, $writer:expr, $version:expr, $nulls:expr) => {
        if ($nulls).contains(&$version.number) {
            $field.write($writer, $version)
        } else {
            $field.write_present($writer, $version)
        }
    };
}

macro_rules! write_tags {
    ($message:expr, $writer:expr, $version:expr, {}) => { $writer.put_uvarint(0) };
    ($message:expr, $writer:expr, $version:expr, { $(
        $tag:literal, $versions:expr, $field:ident: $kind:ty, ($($default:expr)?);
    )* }) => {
        let mut count = 0;
        $(
            let default: $kind = $crate::protocol::schema::default_value!($($default)?);
            let $field = ($versions).contains(&$version.number) && $message.$field != default;
            count += u32::from($field);
        )*
        $writer.put_uvarint(count);
        $(if $field {
            $writer.put_tag($tag, |body| $message.$field.write(body, $version));
        })*
    };
}

pub(crate) use {
    default_value, message, nullable, nulls_span, read_field, with_lifetime, write_field,
    write_tags,
};
