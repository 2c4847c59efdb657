// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Set is the values a field may have. An empty set holds none, so nothing
// matches it. Any, written as the single word "any" instead of a list, matches
// every value that was measured and is free of taint; what is unknown matches
// nothing.
type Set[T any] struct {
	Any bool
	Of  []T
}

const anyWord = "any"

// UnmarshalYAML reads a list, or the word "any". It has the form that needs no
// YAML package here.
func (s *Set[T]) UnmarshalYAML(unmarshal func(any) error) error {
	*s = Set[T]{}
	var word string
	if unmarshal(&word) == nil && word != "" {
		return s.word(word)
	}
	return unmarshal(&s.Of)
}

// UnmarshalJSON reads an array, or the string "any". Members it does not know
// are an error.
func (s *Set[T]) UnmarshalJSON(data []byte) error {
	*s = Set[T]{}
	var word string
	if json.Unmarshal(data, &word) == nil && !bytes.Equal(data, []byte("null")) {
		return s.word(word)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(&s.Of)
}

func (s *Set[T]) word(word string) error {
	if word != anyWord {
		return fmt.Errorf("%q is neither a list nor the word %q", word, anyWord)
	}
	s.Any, s.Of = true, nil
	return nil
}

// MarshalYAML returns the list, or the word "any".
func (s Set[T]) MarshalYAML() (any, error) {
	if s.Any {
		return anyWord, nil
	}
	return s.Of, nil
}

// MarshalJSON writes the list, or the string "any".
func (s Set[T]) MarshalJSON() ([]byte, error) {
	if s.Any {
		return json.Marshal(anyWord)
	}
	if s.Of == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(s.Of)
}
