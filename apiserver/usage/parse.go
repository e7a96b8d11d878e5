package usage

import (
	"bytes"
	"strconv"
	"time"

	"sagong/object"
)

// parsed is one node's answer.
type parsed struct {
	node sample
	pods map[object.Key]*podSample
}

// parse reads the samples it knows out of Prometheus' text format and skips all
// else. A sample without a time is of the time given.
func parse(text []byte, at time.Time) parsed {
	p := parsed{pods: map[object.Key]*podSample{}, node: sample{at: at}}
	for line := range bytes.Lines(text) {
		name, labels, value, when, ok := split(line)
		if !ok {
			continue
		}
		s := &p.node
		switch string(name) {
		case "node_cpu_usage_seconds_total", "node_memory_working_set_bytes":
		case "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds":
			if s = p.container(labels, at); s == nil {
				continue
			}
		default:
			continue
		}
		switch {
		case bytes.HasSuffix(name, []byte("cpu_usage_seconds_total")):
			s.cpu = value
			if when > 0 {
				s.at = time.UnixMilli(when)
			}
		case bytes.HasSuffix(name, []byte("working_set_bytes")):
			s.memory = value
		default:
			if value > 0 && value < 1<<33 {
				s.start = time.UnixMilli(int64(value * 1000))
			}
		}
	}
	return p
}

// container finds or makes the sample that labels name; nil when they name none.
func (p *parsed) container(labels []byte, at time.Time) *sample {
	var container, namespace, pod string
	for len(labels) > 0 {
		key, rest, ok := bytes.Cut(labels, []byte{'='})
		if !ok || len(rest) < 2 || rest[0] != '"' {
			return nil
		}
		end := closing(rest)
		if end < 0 {
			return nil
		}
		value := rest[1:end]
		switch string(bytes.TrimSpace(key)) {
		case "container":
			container = unescape(value)
		case "namespace":
			namespace = unescape(value)
		case "pod":
			pod = unescape(value)
		}
		labels = bytes.TrimPrefix(rest[end+1:], []byte{','})
	}
	if container == "" || namespace == "" || pod == "" {
		return nil
	}
	k := object.Key{Namespace: namespace, Name: pod}
	ps := p.pods[k]
	if ps == nil {
		ps = &podSample{}
		p.pods[k] = ps
	}
	s := (*ps)[container]
	if s == nil {
		s = &sample{at: at}
		(*ps)[container] = s
	}
	return s
}

// closing is where the quoted text that b begins with ends; -1 when it does not.
func closing(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func unescape(b []byte) string {
	if !bytes.ContainsRune(b, '\\') {
		return string(b)
	}
	s, err := strconv.Unquote(`"` + string(b) + `"`)
	if err != nil {
		return ""
	}
	return s
}

// split takes a line apart: name{labels} value time.
func split(line []byte) (name, labels []byte, value float64, when int64, ok bool) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] == '#' {
		return nil, nil, 0, 0, false
	}
	rest := line
	if i := bytes.IndexAny(line, "{ "); i < 0 {
		return nil, nil, 0, 0, false
	} else if name, rest = line[:i], line[i:]; rest[0] == '{' {
		end := 1
		for end < len(rest) && rest[end] != '}' {
			if rest[end] == '"' {
				n := closing(rest[end:])
				if n < 0 {
					return nil, nil, 0, 0, false
				}
				end += n
			}
			end++
		}
		if end >= len(rest) {
			return nil, nil, 0, 0, false
		}
		labels, rest = rest[1:end], rest[end+1:]
	}
	number, stamp, _ := bytes.Cut(bytes.TrimSpace(rest), []byte{' '})
	value, err := strconv.ParseFloat(string(number), 64)
	if err != nil || !(value >= 0 && value < 1e18) {
		return nil, nil, 0, 0, false
	}
	if stamp = bytes.TrimSpace(stamp); len(stamp) > 0 {
		if when, err = strconv.ParseInt(string(stamp), 10, 64); err != nil {
			return nil, nil, 0, 0, false
		}
	}
	return name, labels, value, when, true
}
