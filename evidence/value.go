// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
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

// MarshalCBOR encodes v as the array of spec/evidence.md section 3.1.
func (v Value[T]) MarshalCBOR() ([]byte, error) {
	switch v.state {
	case stateKnown:
		return Marshal([]any{0, v.value})
	case stateUnknown:
		return Marshal([]any{1, v.reason})
	case stateTainted:
		return Marshal([]any{2, v.value, v.taints})
	default:
		return nil, fmt.Errorf("field of type %T was never set", v.value)
	}
}

// UnmarshalCBOR decodes the array of spec/evidence.md section 3.1.
func (v *Value[T]) UnmarshalCBOR(data []byte) error {
	var parts []cbor.RawMessage
	if err := decMode.Unmarshal(data, &parts); err != nil {
		return err
	}
	if len(parts) < 2 || len(parts[0]) != 1 {
		return fmt.Errorf("malformed field: %d parts", len(parts))
	}
	*v = Value[T]{}
	switch state := parts[0][0]; {
	case state == 0 && len(parts) == 2:
		v.state = stateKnown
		return decMode.Unmarshal(parts[1], &v.value)
	case state == 1 && len(parts) == 2:
		v.state = stateUnknown
		if err := decMode.Unmarshal(parts[1], &v.reason); err != nil {
			return err
		}
		if v.reason == "" || len(v.reason) > MaxText {
			return fmt.Errorf("unknown field gives a reason of %d bytes", len(v.reason))
		}
		return nil
	case state == 2 && len(parts) == 3:
		v.state = stateTainted
		if err := decMode.Unmarshal(parts[1], &v.value); err != nil {
			return err
		}
		if err := decMode.Unmarshal(parts[2], &v.taints); err != nil {
			return err
		}
		if len(v.taints) == 0 {
			return fmt.Errorf("tainted field lists no taint")
		}
		return nil
	default:
		return fmt.Errorf("malformed field: state %d with %d parts", state, len(parts))
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
