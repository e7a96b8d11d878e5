package object

import (
	"bytes"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// covers says whether encoded managed fields hold all members of a set, without
// decoding them. It may say no where they do, as when keys are escaped otherwise
// than the library does.
func covers(fields []byte, s *fieldpath.Set) bool {
	all := true
	s.Members.Iterate(func(e fieldpath.PathElement) {
		if !all {
			return
		}
		below, ok := lookup(fields, e)
		all = ok && (len(below) == len("{}") || has(below, "."))
	})
	s.Children.Iterate(func(e fieldpath.PathElement) {
		if !all {
			return
		}
		below, ok := lookup(fields, e)
		child, _ := s.Children.Get(e)
		all = ok && covers(below, child)
	})
	return all
}

// lookup returns what managed fields hold below a path element.
func lookup(fields []byte, e fieldpath.PathElement) ([]byte, bool) {
	if e.FieldName != nil {
		if !unescaped(*e.FieldName) {
			return nil, false
		}
		return member(fields, "f:", *e.FieldName)
	}
	key, err := fieldpath.SerializePathElement(e)
	if err != nil || !unescaped(strings.ReplaceAll(key, `"`, "")) {
		return nil, false
	}
	return member(fields, "", strings.ReplaceAll(key, `"`, `\"`))
}

func has(fields []byte, key string) bool {
	_, ok := member(fields, "", key)
	return ok
}

// member finds the value of prefix+key in a JSON object without spaces whose
// values are such objects; key is as it stands between the quotes.
func member(fields []byte, prefix, key string) ([]byte, bool) {
	if len(fields) < 2 || fields[0] != '{' {
		return nil, false
	}
	for rest := fields[1:]; len(rest) > 0 && rest[0] == '"'; {
		end := stringEnd(rest)
		if end < 0 || end+1 >= len(rest) || rest[end] != ':' || rest[end+1] != '{' {
			return nil, false
		}
		name, value := rest[1:end-1], rest[end+1:]
		n := objectEnd(value)
		if n < 0 {
			return nil, false
		}
		if len(name) == len(prefix)+len(key) && string(name[:len(prefix)]) == prefix && string(name[len(prefix):]) == key {
			return value[:n], true
		}
		if rest = value[n:]; len(rest) == 0 || rest[0] != ',' {
			return nil, false
		}
		rest = rest[1:]
	}
	return nil, false
}

// stringEnd is the length of the JSON string that b begins with, or -1.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
	return -1
}

// objectEnd is the length of the JSON object that b begins with, or -1.
func objectEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n < 0 {
				return -1
			}
			i += n - 1
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// unescaped says whether every encoder writes s as it is.
func unescaped(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}
