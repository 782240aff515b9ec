//go:build debug

package respool

import (
	"fmt"
	"reflect"
	"strings"
)

// A key tells elements apart.
type key any

// A reference is the key of an element that is, or is known by, a pointer, slice, map or channel. It
// does not keep the element alive: who forgets to put one back may lose it to the garbage
// collector, and is reported all the same.
type reference struct {
	typ reflect.Type
	at  uintptr
}

// alike is the key of all elements that nothing tells apart.
type alike struct{}

// identityOf looks at a type once and returns what finds the key in its values:
//   - pointers, channels, maps and slices are known by their address, a slice by that
//     of its first element;
//   - other comparable types by their value, unless there is a floating-point number
//     in it, for NaN is not equal to itself, or an interface;
//   - other structs and arrays by the first pointer, channel, map, slice or interface in
//     them, an array by what is in its first element;
//   - what an interface holds by these rules, at each call;
//   - nothing else: functions, floating-point numbers, structs of these.
func identityOf(t reflect.Type) func(v reflect.Value) key {
	switch {
	case t.Kind() == reflect.Interface:
		return dynamic
	case isReference(t):
		return address
	case equalToItself(t):
		return value
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Array:
		return within(t)
	}
	return nothing
}

func nothing(reflect.Value) key { return alike{} }

func value(v reflect.Value) key {
	if !v.CanInterface() { // what an interface in an unexported field holds
		return alike{}
	}
	return v.Interface()
}

func address(v reflect.Value) key {
	if v.IsNil() || v.Kind() == reflect.Slice && v.Cap() == 0 {
		return alike{}
	}
	return reference{v.Type(), v.Pointer()}
}

func dynamic(v reflect.Value) key {
	if v.IsNil() {
		return alike{}
	}
	return identityOf(v.Elem().Type())(v.Elem())
}

// within finds the first part that is a reference or may hold one.
func within(t reflect.Type) func(v reflect.Value) key {
	for i := range parts(t) {
		find := nothing
		switch in := partType(t, i); {
		case in.Kind() == reflect.Interface:
			find = dynamic
		case isReference(in):
			find = address
		case hasReference(in):
			find = within(in)
		default:
			continue
		}
		return func(v reflect.Value) key { return find(part(v, i)) }
	}
	return nothing
}

func isReference(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Chan, reflect.Map, reflect.Slice, reflect.UnsafePointer:
		return true
	}
	return false
}

func hasReference(t reflect.Type) bool {
	if isReference(t) || t.Kind() == reflect.Interface {
		return true
	}
	for i := range parts(t) {
		if hasReference(partType(t, i)) {
			return true
		}
	}
	return false
}

// equalToItself reports whether values of t are comparable, for sure and to themselves.
func equalToItself(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	}
	for i := range parts(t) {
		if !equalToItself(partType(t, i)) {
			return false
		}
	}
	return t.Comparable()
}

// parts is how many parts of a struct or array there are to look at, 0 of anything else.
func parts(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Struct:
		return t.NumField()
	case reflect.Array:
		return min(t.Len(), 1)
	}
	return 0
}

func partType(t reflect.Type, i int) reflect.Type {
	if t.Kind() == reflect.Struct {
		return t.Field(i).Type
	}
	return t.Elem()
}

func part(v reflect.Value, i int) reflect.Value {
	if v.Kind() == reflect.Struct {
		return v.Field(i)
	}
	return v.Index(i)
}

// maxElementText bounds what a report says of one element, in bytes.
const maxElementText = 80

// elementText is k for a report. It reads nothing that an element points to.
func elementText(k key) string {
	switch k := k.(type) {
	case alike:
		return "an element that nothing tells apart from others"
	case reference:
		return fmt.Sprintf("%v at %#x", k.typ, k.at)
	}
	text := fmt.Sprintf("%#v", k)
	if !strings.Contains(text, "{") {
		text = fmt.Sprintf("%T(%s)", k, text)
	}
	if len(text) > maxElementText {
		text = strings.ToValidUTF8(text[:maxElementText], "") + "..."
	}
	return text
}
