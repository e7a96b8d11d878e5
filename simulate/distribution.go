package simulate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Distribution is a random duration. Its text form is one of
//
//	2s                always the same
//	1s..3s            evenly between two
//	normal:2s,500ms   a normal distribution, by mean and standard deviation
//	exp:2s            an exponential distribution, by its mean
//
// The zero value is always 0. It is a flag value.
type Distribution struct {
	form form
	a, b time.Duration
}

type form uint8

const (
	fixed form = iota
	uniform
	normal
	exponential
)

// longest bounds what a distribution yields: the exponential one has no end.
const longest = 365 * 24 * time.Hour

// ParseDistribution reads the text form.
func ParseDistribution(text string) (Distribution, error) {
	var d Distribution
	refuse := func() (Distribution, error) {
		return Distribution{}, fmt.Errorf("cannot read %q as a duration: write 2s, 1s..3s, normal:2s,500ms or exp:2s", text)
	}
	first, second := text, ""
	if rest, ok := strings.CutPrefix(text, "normal:"); ok {
		d.form = normal
		if first, second, ok = strings.Cut(rest, ","); !ok {
			return refuse()
		}
	} else if rest, ok := strings.CutPrefix(text, "exp:"); ok {
		d.form, first = exponential, rest
	} else if from, to, ok := strings.Cut(text, ".."); ok {
		d.form, first, second = uniform, from, to
	}
	var err error
	if d.a, err = time.ParseDuration(strings.TrimSpace(first)); err != nil || d.a < 0 || d.a > longest {
		return refuse()
	}
	if d.form == uniform || d.form == normal {
		if d.b, err = time.ParseDuration(strings.TrimSpace(second)); err != nil || d.b < 0 || d.b > longest || d.form == uniform && d.b < d.a {
			return refuse()
		}
	}
	return d, nil
}

// Draw returns one duration, never below zero.
func (d Distribution) Draw(r *rand.Rand) time.Duration {
	switch d.form {
	case uniform:
		return d.a + time.Duration(r.Int64N(int64(d.b-d.a)+1))
	case normal:
		return bounded(float64(d.a) + r.NormFloat64()*float64(d.b))
	case exponential:
		return bounded(r.ExpFloat64() * float64(d.a))
	}
	return d.a
}

func bounded(f float64) time.Duration { return time.Duration(min(max(f, 0), float64(longest))) }

// String implements pflag.Value: the text form.
func (d Distribution) String() string {
	switch d.form {
	case uniform:
		return d.a.String() + ".." + d.b.String()
	case normal:
		return "normal:" + d.a.String() + "," + d.b.String()
	case exponential:
		return "exp:" + d.a.String()
	}
	return d.a.String()
}

// Set implements pflag.Value.
func (d *Distribution) Set(text string) error {
	parsed, err := ParseDistribution(text)
	if err == nil {
		*d = parsed
	}
	return err
}

// Type implements pflag.Value: how help shows it.
func (Distribution) Type() string { return "duration" }
