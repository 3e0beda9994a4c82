//! Objects of requests whose fields are read by their names alone.

/// Has a type with `#[serde(remote = "Self")]` read from objects only. Without it a list would be taken for
/// the values of its fields, in their order.
macro_rules! by_name {
    ($($object:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $object {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                struct ByName;

                impl<'de> serde::de::Visitor<'de> for ByName {
                    type Value = $object;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A>(self, fields: A) -> Result<$object, A::Error>
                    where
                        A: serde::de::MapAccess<'de>,
                    {
                        let fields = serde::de::value::MapAccessDeserializer::new(fields);
                        // The derived function, which comes before the trait's.
                        <$object>::deserialize(fields)
                    }
                }

                source.deserialize_map(ByName)
            }
        }
    )+};
}

pub(crate) use by_name;
