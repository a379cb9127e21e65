package network

import (
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Codes calls f for each different error code that an answer holds, wherever.
func Codes(res kmsg.Response, f func(code int16)) {
	seen := map[int16]bool{0: true}
	codes(reflect.ValueOf(res), func(code int16) {
		if !seen[code] {
			seen[code] = true
			f(code)
		}
	})
}

func codes(v reflect.Value, f func(code int16)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			codes(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Field(i)
			if v.Type().Field(i).Name == "ErrorCode" && field.Kind() == reflect.Int16 {
				f(int16(field.Int()))
				continue
			}
			codes(field, f)
		}
	case reflect.Slice:
		switch v.Type().Elem().Kind() {
		case reflect.Struct, reflect.Pointer:
			for i := range v.Len() {
				codes(v.Index(i), f)
			}
		}
	}
}
