//! From values to what Foyer takes, and back, so that nobody writes JSON strings by hand.

use crate::foyer::{Args, Payload, args, payload};
use prost_types::{ListValue, Struct, value::Kind};
use serde_json::{Value, json};

/// Given bytes, it answers with what stands for them among the arguments; the bytes themselves travel beside.
pub type Binary<'a> = &'a mut dyn FnMut(&[u8]) -> Value;

fn pack(values: impl FnOnce(Binary) -> Value) -> (String, Vec<Vec<u8>>) {
    let mut attachments = Vec::new();
    let values = values(&mut |bytes| {
        attachments.push(bytes.to_vec());
        json!({"_placeholder": true, "num": attachments.len() - 1})
    });
    (values.to_string(), attachments)
}

/// An event: `to_payload("photo", |binary| json!(["cat.png", binary(&bytes)]))`.
pub fn to_payload(event: &str, values: impl FnOnce(Binary) -> Value) -> Payload {
    let (json, attachments) = pack(values);
    Payload { event: event.to_string(), args: Some(payload::Args::Json(json)), attachments }
}

/// The arguments of an acknowledgement, in the same way.
pub fn to_args(values: impl FnOnce(Binary) -> Value) -> Args {
    let (json, attachments) = pack(values);
    Args { args: Some(args::Args::Json(json)), attachments }
}

/// The arguments of an event. Foyer always answers with JSON, and has checked it.
pub fn from_payload(payload: &Payload) -> Vec<Value> {
    match &payload.args {
        Some(payload::Args::Json(json)) => serde_json::from_str(json).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The arguments of an acknowledgement.
pub fn from_args(args: &Args) -> Vec<Value> {
    match &args.args {
        Some(args::Args::Json(json)) => serde_json::from_str(json).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The bytes that an argument stands for, if it does.
pub fn bytes<'a>(value: &Value, attachments: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    value["_placeholder"].as_bool().filter(|&is| is)?;
    attachments.get(value["num"].as_u64()? as usize).map(Vec::as_slice)
}

// google.protobuf.Struct: the data of a socket, and what a client gives as auth.

pub fn to_struct(value: Value) -> Struct {
    match to_value(value).kind {
        Some(Kind::StructValue(fields)) => fields,
        _ => Struct::default(),
    }
}

pub fn to_value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(v) => Kind::BoolValue(v),
        Value::Number(v) => Kind::NumberValue(v.as_f64().unwrap_or(f64::NAN)),
        Value::String(v) => Kind::StringValue(v),
        Value::Array(v) => Kind::ListValue(ListValue { values: v.into_iter().map(to_value).collect() }),
        Value::Object(v) => {
            Kind::StructValue(Struct { fields: v.into_iter().map(|(k, v)| (k, to_value(v))).collect() })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

pub fn from_struct(fields: Struct) -> Value {
    fields.fields.into_iter().map(|(k, v)| (k, from_value(v))).collect()
}

fn from_value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(v)) => v.into(),
        Some(Kind::NumberValue(v)) => v.into(),
        Some(Kind::StringValue(v)) => v.into(),
        Some(Kind::ListValue(v)) => v.values.into_iter().map(from_value).collect(),
        Some(Kind::StructValue(v)) => from_struct(v),
    }
}
