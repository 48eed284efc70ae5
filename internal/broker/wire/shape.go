package wire

import "strings"

// CheckShape walks a request body by its shape and reports whether it is whole
// and nothing is left: then every count in it is true, and a decoder that
// allocates arrays by their counts allocates in proportion to what arrived.
//
// A shape is a sequence of fields: digits are numbers of so many bytes, 'u' a
// UUID, 's' a string that may be null, '[' to ']' an array of structs, and '<' to
// '>' one of numbers.
// Tagged fields must be there where flexible, and empty: no client sends any in
// the requests that this is for, and each would cost an entry of a map.
func CheckShape(body []byte, shape string, flexible bool) bool {
	r := &reader{src: body}
	shapeFields(r, shape, flexible)
	return !r.bad && len(r.src) == 0
}

func shapeFields(r *reader, shape string, flexible bool) {
	for i := 0; i < len(shape) && !r.bad; i++ {
		switch c := shape[i]; {
		case c >= '0' && c <= '9':
			r.span(int(c - '0'))
		case c == 'u':
			r.span(16)
		case c == 's' && flexible:
			r.compactNullable()
		case c == 's':
			r.nullableString()
		case c == '<':
			end := i + strings.IndexByte(shape[i:], '>')
			for n := r.arrayLen(flexible, 1); n > 0 && !r.bad; n-- {
				shapeFields(r, shape[i+1:end], false)
			}
			i = end
		case c == '[':
			end := shapeEnd(shape, i)
			for n := r.arrayLen(flexible, 1); n > 0 && !r.bad; n-- {
				shapeFields(r, shape[i+1:end], flexible)
			}
			i = end
		}
	}
	if flexible && r.uvarint() != 0 {
		r.fail()
	}
}

// shapeEnd finds the bracket that closes the one at i.
func shapeEnd(shape string, i int) int {
	depth := 0
	for ; i < len(shape); i++ {
		switch shape[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(shape)
}
