// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Value is one measured field: known, unknown for a reason, or tainted
// (spec/evidence.md section 3.1). Its zero value is unknown without a reason,
// which the encoder refuses: an unmeasured field must say why.
//
//	known    [0, value]
//	unknown  [1, reason]
//	tainted  [2, value, [taint, ...]]
type Value[T any] struct {
	value  T
	state  valueState
	reason string
	taints []string
}

type valueState uint8

const (
	stateUnset valueState = iota
	stateKnown
	stateUnknown
	stateTainted
)

// Known returns a field whose value was measured.
func Known[T any](v T) Value[T] { return Value[T]{value: v, state: stateKnown} }

// Unknown returns a field that was not measured. The reason is a short word
// of the list in spec/evidence.md section 3.1, such as "exited".
func Unknown[T any](reason string) Value[T] {
	return Value[T]{state: stateUnknown, reason: reason}
}

// Tainted returns a field that was measured but must not be believed.
func Tainted[T any](v T, taints ...string) Value[T] {
	return Value[T]{value: v, state: stateTainted, taints: taints}
}

// Get returns the value and true only when it is known and free of taint.
func (v Value[T]) Get() (T, bool) {
	if v.state != stateKnown {
		var zero T
		return zero, false
	}
	return v.value, true
}

// Observed returns what was seen, tainted or not, for showing to people.
func (v Value[T]) Observed() (T, bool) {
	return v.value, v.state == stateKnown || v.state == stateTainted
}

// Reason returns why the field is unknown, or "".
func (v Value[T]) Reason() string { return v.reason }

// Taints returns why the value must not be believed, or nil.
func (v Value[T]) Taints() []string { return slices.Clone(v.taints) }

// String describes the state for people: the value, "unknown (reason)" or
// "tainted (list): value".
func (v Value[T]) String() string {
	switch v.state {
	case stateKnown:
		return fmt.Sprint(v.value)
	case stateUnknown:
		return "unknown (" + v.reason + ")"
	case stateTainted:
		return fmt.Sprintf("tainted %v: %v", v.taints, v.value)
	default:
		return "unset"
	}
}

// The heads of the three arrays, and the number that follows each.
const (
	headPair   = 0x82
	headTriple = 0x83
	numKnown   = 0
	numUnknown = 1
	numTainted = 2
)

// MarshalCBOR encodes v as the array of spec/evidence.md section 3.1, for
// [Marshal] and other users of a general CBOR library.
func (v Value[T]) MarshalCBOR() ([]byte, error) {
	switch v.state {
	case stateKnown:
		return join([]byte{headPair, numKnown}, v.value, nil)
	case stateUnknown:
		return join([]byte{headPair, numUnknown}, v.reason, nil)
	case stateTainted:
		return join([]byte{headTriple, numTainted}, v.value, v.taints)
	default:
		return nil, fmt.Errorf("field of type %T was never set", v.value)
	}
}

func join(head []byte, value any, taints []string) ([]byte, error) {
	enc, err := encMode.Marshal(value)
	if err != nil {
		return nil, err
	}
	out := append(head, enc...)
	if taints == nil {
		return out, nil
	}
	if enc, err = encMode.Marshal(taints); err != nil {
		return nil, err
	}
	return append(out, enc...), nil
}

// UnmarshalCBOR decodes the array of spec/evidence.md section 3.1. The decoder
// that calls it has seen that data is well formed; it runs once per field, so
// it looks at the two leading bytes itself.
func (v *Value[T]) UnmarshalCBOR(data []byte) error {
	*v = Value[T]{}
	if len(data) < 3 {
		return fmt.Errorf("malformed field of %d bytes", len(data))
	}
	head, body := [2]byte{data[0], data[1]}, data[2:]
	switch head {
	case [2]byte{headPair, numKnown}:
		v.state = stateKnown
		return decMode.Unmarshal(body, &v.value)
	case [2]byte{headPair, numUnknown}:
		v.state = stateUnknown
		if err := decMode.Unmarshal(body, &v.reason); err != nil {
			return err
		}
		if v.reason == "" || len(v.reason) > MaxText {
			return fmt.Errorf("unknown field gives a reason of %d bytes", len(v.reason))
		}
		return nil
	case [2]byte{headTriple, numTainted}:
		v.state = stateTainted
		rest, err := decMode.UnmarshalFirst(body, &v.value)
		if err != nil {
			return err
		}
		if err := decMode.Unmarshal(rest, &v.taints); err != nil {
			return err
		}
		if len(v.taints) == 0 {
			return fmt.Errorf("tainted field lists no taint")
		}
		return nil
	default:
		return fmt.Errorf("malformed field: begins %x", head)
	}
}

// valueJSON is the shape of a field in --json output.
type valueJSON[T any] struct {
	Value   *T       `json:"value,omitempty"`
	Unknown string   `json:"unknown,omitempty"`
	Tainted []string `json:"tainted,omitempty"`
}

// MarshalJSON shows v as {"value":…}, {"unknown":…} or {"value":…,"tainted":[…]}.
func (v Value[T]) MarshalJSON() ([]byte, error) {
	out := valueJSON[T]{Unknown: v.reason, Tainted: v.taints}
	if seen, ok := v.Observed(); ok {
		out.Value = &seen
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Value[T]) UnmarshalJSON(data []byte) error {
	*v = Value[T]{}
	var in struct {
		Value   json.RawMessage // null is a value: a pointer to nothing
		Unknown string
		Tainted []string
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return err
	}
	if in.Value != nil {
		if err := json.Unmarshal(in.Value, &v.value); err != nil {
			return err
		}
	}
	switch {
	case in.Value == nil && in.Unknown != "" && len(in.Tainted) == 0:
		v.state, v.reason = stateUnknown, in.Unknown
	case in.Value != nil && in.Unknown == "" && len(in.Tainted) > 0:
		v.state, v.taints = stateTainted, in.Tainted
	case in.Value != nil && in.Unknown == "":
		v.state = stateKnown
	default:
		return fmt.Errorf("field %s is not one of known, unknown, tainted", data)
	}
	return nil
}
