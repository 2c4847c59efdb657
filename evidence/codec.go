// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// codec writes the types of this package as deterministic CBOR, or reads them.
// Each type says its form once, in a method wire that serves both directions,
// so reader and writer cannot drift apart. The reader takes only what the
// writer writes: heads in their shortest form, arrays of the very length, no
// null where a value has to be. The first fault ends it; what was read by then
// is thrown away by whoever asked.
//
// It is here, beside a general CBOR library, because a verifier reads every
// byte from strangers and does so for each bundle: this is strict without
// encoding again to compare, and several times faster than reflection.
type codec struct {
	data    []byte // written so far, or to be read
	at      int    // read so far
	writing bool
	fault   error
}

// Major types and simple values (RFC 8949 section 3.1).
const (
	majorUint  = 0 << 5
	majorNint  = 1 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5

	simpleFalse = 0xf4
	simpleTrue  = 0xf5
	simpleNull  = 0xf6
)

// encode returns the bytes of x.
func encode[T any](x *T, wire func(*T, *codec)) ([]byte, error) {
	c := codec{writing: true, data: make([]byte, 0, 512)}
	wire(x, &c)
	return c.data, c.fault
}

// decode reads exactly one T from data, which x goes on to share.
func decode[T any](data []byte, x *T, wire func(*T, *codec)) error {
	c := codec{data: data}
	wire(x, &c)
	if c.fault == nil && c.at != len(data) {
		c.fail("%d bytes follow the end", len(data)-c.at)
	}
	return c.fault
}

func (c *codec) fail(format string, args ...any) {
	if c.fault != nil {
		return
	}
	if c.writing {
		c.fault = fmt.Errorf(format, args...)
		return
	}
	c.fault = fmt.Errorf("at byte %d of %d: %s", c.at, len(c.data), fmt.Sprintf(format, args...))
	c.at = len(c.data)
}

// head writes or reads the head of an item of the major type, and returns its
// argument.
func (c *codec) head(major byte, n uint64) uint64 {
	if !c.writing {
		return c.readHead(major)
	}
	switch {
	case n < 24:
		c.data = append(c.data, major|byte(n))
	case n < 1<<8:
		c.data = append(c.data, major|24, byte(n))
	case n < 1<<16:
		c.data = binary.BigEndian.AppendUint16(append(c.data, major|25), uint16(n))
	case n < 1<<32:
		c.data = binary.BigEndian.AppendUint32(append(c.data, major|26), uint32(n))
	default:
		c.data = binary.BigEndian.AppendUint64(append(c.data, major|27), n)
	}
	return n
}

func (c *codec) readHead(major byte) uint64 {
	rest := c.data[c.at:]
	if len(rest) == 0 || c.fault != nil {
		c.fail("ends too early")
		return 0
	}
	if rest[0]&^31 != major {
		c.fail("item %#02x, want %s", rest[0], majorNames[major>>5])
		return 0
	}
	info := rest[0] & 31
	if info < 24 {
		c.at++
		return uint64(info)
	}
	if info > 27 {
		c.fail("item %#02x has an indefinite or reserved length", rest[0])
		return 0
	}
	size := 1 << (info - 24)
	if len(rest) < 1+size {
		c.fail("ends too early")
		return 0
	}
	var n uint64
	for _, b := range rest[1 : 1+size] {
		n = n<<8 | uint64(b)
	}
	if size == 1 && n < 24 || size > 1 && n>>(4*size) == 0 {
		c.fail("%d is not in its shortest form", n)
		return 0
	}
	c.at += 1 + size
	return n
}

var majorNames = [...]string{"an unsigned number", "a negative number", "bytes", "text", "an array", "a map", "a tag", "a simple value"}

// array writes or reads the head of an array of exactly n items.
func (c *codec) array(n uint64) {
	if got := c.head(majorArray, n); got != n {
		c.fail("array of %d items, want %d", got, n)
	}
}

// key writes or reads exactly this key of a map.
func (c *codec) key(k int64) {
	got := k
	if number(&got, c); got != k {
		c.fail("key %d, want %d", got, k)
	}
}

// null writes null if x is nil, and reports whether null was read.
func (c *codec) null(isNil bool) bool {
	if c.writing {
		if isNil {
			c.data = append(c.data, simpleNull)
		}
		return isNil
	}
	if c.at < len(c.data) && c.data[c.at] == simpleNull {
		c.at++
		return true
	}
	return false
}

// take returns the next n bytes of the input, and shares them.
func (c *codec) take(n uint64) []byte {
	if n > uint64(len(c.data)-c.at) || c.fault != nil {
		c.fail("%d bytes wanted, %d left", n, len(c.data)-c.at)
		return nil
	}
	c.at += int(n)
	return c.data[c.at-int(n) : c.at : c.at]
}

// unsigned is any unsigned number; one that does not fit its type is refused.
func unsigned[N uint8 | uint32 | uint64](x *N, c *codec) {
	n := c.head(majorUint, uint64(*x))
	if *x = N(n); uint64(*x) != n {
		c.fail("%d is too large", n)
	}
}

func number(x *int64, c *codec) {
	if c.writing && *x < 0 || !c.writing && c.at < len(c.data) && c.data[c.at]&^31 == majorNint {
		n := c.head(majorNint, uint64(-1-*x))
		if n > 1<<63-1 {
			c.fail("-1-%d is too small", n)
		}
		*x = -1 - int64(n)
		return
	}
	n := c.head(majorUint, uint64(*x))
	if n > 1<<63-1 {
		c.fail("%d is too large", n)
	}
	*x = int64(n)
}

func boolean(x *bool, c *codec) {
	if c.writing {
		c.data = append(c.data, simpleFalse)
		if *x {
			c.data[len(c.data)-1] = simpleTrue
		}
		return
	}
	b := c.take(1)
	switch {
	case len(b) == 1 && b[0] == simpleTrue:
		*x = true
	case len(b) == 1 && b[0] == simpleFalse:
		*x = false
	default:
		c.fail("want true or false")
	}
}

func text(x *string, c *codec) {
	n := c.head(majorText, uint64(len(*x)))
	if c.writing {
		if !utf8.ValidString(*x) {
			c.fail("text %q is not UTF-8", *x)
		}
		c.data = append(c.data, *x...)
		return
	}
	b := c.take(n)
	if !utf8.Valid(b) {
		c.fail("text is not UTF-8")
		return
	}
	*x = string(b)
}

func octets[B ~[]byte](x *B, c *codec) {
	n := c.head(majorBytes, uint64(len(*x)))
	if c.writing {
		c.data = append(c.data, *x...)
		return
	}
	*x = c.take(n)
}

func hash(x *Hash, c *codec) {
	if c.writing {
		c.data = append(append(c.data, majorBytes|24, 32), x[:]...)
		return
	}
	if n := c.head(majorBytes, 0); n != 32 {
		c.fail("hash of %d bytes, want 32", n)
		return
	}
	copy(x[:], c.take(32))
}

// list is an array of any length; the reader takes most items.
func list[T any](x *[]T, most int, wire func(*T, *codec), c *codec) {
	n := c.head(majorArray, uint64(len(*x)))
	if !c.writing {
		if n > uint64(most) {
			c.fail("array of %d items, at most %d", n, most)
			return
		}
		*x = make([]T, 0, min(n, firstItems))
	}
	for i := range n {
		if c.fault != nil {
			return
		}
		if !c.writing { // grown as it is filled: the count alone buys no memory
			var zero T
			*x = append(*x, zero)
		}
		wire(&(*x)[i], c)
	}
}

const firstItems = 16

// texts is a list of text.
func texts(x *[]string, c *codec) { list(x, MaxElements, text, c) }

// optional is a T or null.
func optional[T any](x **T, wire func(*T, *codec), c *codec) {
	if c.null(*x == nil) {
		return
	}
	if !c.writing {
		*x = new(T)
	}
	wire(*x, c)
}

// environment is a map of text to text, keys in the order of their encoding:
// shorter first.
func environment(x *map[string]string, c *codec) {
	n := c.head(majorMap, uint64(len(*x)))
	if c.writing {
		keys := make([]string, 0, n)
		for k := range *x {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, compareKeys)
		for _, k := range keys {
			v := (*x)[k]
			text(&k, c)
			text(&v, c)
		}
		return
	}
	if n > MaxPairs {
		c.fail("map of %d pairs, at most %d", n, MaxPairs)
		return
	}
	*x = make(map[string]string, n)
	last := ""
	for i := range n {
		var k, v string
		text(&k, c)
		text(&v, c)
		if i > 0 && compareKeys(k, last) <= 0 {
			c.fail("key %q after %q", k, last)
		}
		if c.fault != nil {
			return
		}
		(*x)[k], last = v, k
	}
}

func compareKeys(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return slices.Compare([]byte(a), []byte(b))
}

// field is a three-valued field (spec/evidence.md section 3.1).
func field[T any](x *Value[T], wire func(*T, *codec), c *codec) {
	if c.writing {
		writeField(x, wire, c)
		return
	}
	n := c.head(majorArray, 0)
	state := c.head(majorUint, 0)
	switch {
	case n == 2 && state == 0:
		x.state = stateKnown
		wire(&x.value, c)
	case n == 2 && state == 1:
		x.state = stateUnknown
		if text(&x.reason, c); x.reason == "" || len(x.reason) > MaxText {
			c.fail("unknown field gives a reason of %d bytes", len(x.reason))
		}
	case n == 3 && state == 2:
		x.state = stateTainted
		wire(&x.value, c)
		if texts(&x.taints, c); len(x.taints) == 0 {
			c.fail("tainted field lists no taint")
		}
	default:
		c.fail("malformed field: state %d with %d parts", state, n)
	}
}

func writeField[T any](x *Value[T], wire func(*T, *codec), c *codec) {
	switch x.state {
	case stateKnown:
		c.array(2)
		c.head(majorUint, 0)
		wire(&x.value, c)
	case stateUnknown:
		c.array(2)
		c.head(majorUint, 1)
		text(&x.reason, c)
	case stateTainted:
		c.array(3)
		c.head(majorUint, 2)
		wire(&x.value, c)
		texts(&x.taints, c)
	default:
		c.fail("field of type %T was never set", x.value)
	}
}
