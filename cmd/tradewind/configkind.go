package main

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// misfit says what is wanted in place of a value that a type cannot hold, "" where it can or where only the decoder can tell.
// The library's own words name Go's types and not the key, and it cuts 1.5 down to 1. What stands there is not told: it may be
// a secret in the wrong place.
func misfit(n ast.Node, t reflect.Type) string {
	into := reflect.New(t).Interface()
	if _, own := into.(yaml.InterfaceUnmarshaler); own {
		return ""
	}
	switch n := n.(type) {
	case *ast.NullNode, *ast.AliasNode:
		return ""
	case *ast.MappingNode, *ast.MappingValueNode:
		if t.Kind() == reflect.Map || t.Kind() == reflect.Interface || t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]() {
			return ""
		}
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			return ""
		}
	case *ast.LiteralNode:
		return misfitText(n.Value.Value, t, into)
	case ast.ScalarNode:
		return misfitText(fmt.Sprint(n.GetValue()), t, into)
	}
	return wanted(t)
}

// misfitText is misfit for a value that is neither a mapping nor a list.
func misfitText(text string, t reflect.Type, into any) string {
	fits := false
	switch into := into.(type) {
	case *time.Time:
		fits = parseTime(into, []byte(text)) == nil
	case *bool:
		fits = parseBool(into, []byte(text)) == nil
	case encoding.TextUnmarshaler:
		if err := into.UnmarshalText([]byte(text)); err != nil {
			return err.Error()
		}
		fits = true
	default:
		switch t.Kind() {
		case reflect.String:
			fits = true
		case reflect.Int, reflect.Int64:
			_, err := strconv.ParseInt(text, 0, 64)
			f, isFloat := finite(text)
			fits = err == nil || isFloat && f == math.Trunc(f) && math.Abs(f) < wholeMax
		case reflect.Float64:
			_, err := strconv.ParseInt(text, 0, 64)
			_, isFloat := finite(text)
			fits = err == nil || isFloat
		}
	}
	if fits {
		return ""
	}
	return wanted(t)
}

// finite reads a number that is neither infinite nor none.
func finite(text string) (float64, bool) {
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// wholeMax bounds a whole number that is written as 1e6: up to it a float64 is exact.
const wholeMax = 1 << 53

// wanted is what a type holds.
func wanted(t reflect.Type) string {
	_, written := reflect.New(t).Interface().(encoding.TextUnmarshaler) // a price is not whole, and a time is no mapping
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		return "a time is wanted, such as 2026-12-31 or 2026-12-31T23:59:59Z"
	case k == reflect.Struct, k == reflect.Map, k == reflect.Interface:
		return "a mapping of keys and values is wanted"
	case k == reflect.Slice:
		return "a list is wanted"
	case k == reflect.Bool:
		return "true or false is wanted"
	case k == reflect.Float64, written && k == reflect.Int64:
		return "a number is wanted"
	case k == reflect.Int, k == reflect.Int64:
		return "a whole number is wanted"
	}
	return "one value is wanted"
}
