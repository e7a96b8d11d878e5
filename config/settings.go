package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Setting is one field of Config in its three spellings.
type Setting struct {
	Flag, Env, Key, Usage string
	index                 []int
	// whole says that a value of a list may hold commas: the flag is repeated, and
	// values in the environment are parted by spaces.
	whole bool
}

// Settings lists every setting in the order of Config's fields.
func Settings() []Setting {
	t := reflect.TypeFor[Config]()
	var all []Setting
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		flag := f.Tag.Get("flag")
		all = append(all, Setting{
			Flag: flag, Env: "SAGONG_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")),
			Key: f.Tag.Get("json"), Usage: f.Tag.Get("usage"), index: f.Index, whole: f.Tag.Get("whole") != "",
		})
	}
	return all
}

// Value is the setting in c as text, as its flag takes it. A token is not shown.
func (s Setting) Value(c Config) string {
	v := reflect.ValueOf(c).FieldByIndex(s.index)
	if s.Flag == "token" && !v.IsZero() {
		return "CLASSIFIED"
	}
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// AddFlags defines the named settings (all when none are named) as flags that
// write into c.
func (c *Config) AddFlags(fs *pflag.FlagSet, names ...string) {
	v := reflect.ValueOf(c).Elem()
	for _, s := range Settings() {
		if len(names) > 0 && !slices.Contains(names, s.Flag) {
			continue
		}
		switch p := v.FieldByIndex(s.index).Addr().Interface().(type) {
		case *string:
			fs.StringVar(p, s.Flag, *p, s.Usage)
		case *int:
			fs.IntVar(p, s.Flag, *p, s.Usage)
		case *bool:
			fs.BoolVar(p, s.Flag, *p, s.Usage)
		case *[]string:
			if s.whole {
				fs.StringArrayVar(p, s.Flag, *p, s.Usage)
				continue
			}
			fs.StringSliceVar(p, s.Flag, *p, s.Usage)
		default:
			panic(fmt.Sprintf("config: setting %s has no flag form", s.Flag))
		}
	}
}

// Load layers a YAML file ("" for none) and the environment under flags that
// were given, which are those changed reports.
func (c *Config) Load(file string, getenv func(string) (string, bool), changed func(flag string) bool) error {
	given := *c
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read the configuration: %w", err)
		}
		if err := yaml.UnmarshalStrict(data, c); err != nil {
			return fmt.Errorf("cannot read configuration %s: %w", file, err)
		}
	}
	var errs []error
	v, flags := reflect.ValueOf(c).Elem(), reflect.ValueOf(&given).Elem()
	for _, s := range Settings() {
		f := v.FieldByIndex(s.index)
		if changed(s.Flag) {
			f.Set(flags.FieldByIndex(s.index))
			continue
		}
		text, ok := getenv(s.Env)
		if !ok {
			continue
		}
		if s.whole {
			f.Set(reflect.ValueOf(strings.Fields(text)))
			continue
		}
		if err := setText(f, text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q %w", s.Env, text, err))
		}
	}
	return errors.Join(errs...)
}

func setText(f reflect.Value, text string) error {
	switch p := f.Addr().Interface().(type) {
	case *string:
		*p = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("is not a whole number")
		}
		*p = n
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("is neither true nor false")
		}
		*p = b
	case *[]string:
		*p = nil
		if text != "" {
			*p = strings.Split(text, ",")
		}
	}
	return nil
}

// Args returns the flags that say what differs from the defaults: how one
// process starts another with the same settings, visible in the process list.
func (c *Config) Args() []string {
	def := Defaults()
	v, d := reflect.ValueOf(*c), reflect.ValueOf(def)
	var args []string
	for _, s := range Settings() {
		f := v.FieldByIndex(s.index)
		if reflect.DeepEqual(f.Interface(), d.FieldByIndex(s.index).Interface()) || f.IsZero() {
			continue
		}
		switch x := f.Interface().(type) {
		case []string:
			for _, item := range x {
				args = append(args, "--"+s.Flag, item)
			}
		case bool:
			args = append(args, "--"+s.Flag)
		default:
			args = append(args, "--"+s.Flag, fmt.Sprint(x))
		}
	}
	return args
}

// AgentArgs is Args without what only servers take.
func (c *Config) AgentArgs() []string {
	only := *c
	def := Defaults()
	v, d := reflect.ValueOf(&only).Elem(), reflect.ValueOf(def)
	for _, s := range Settings() {
		if s.Flag != "name" && !slices.Contains(AgentFlags, s.Flag) {
			v.FieldByIndex(s.index).Set(d.FieldByIndex(s.index))
		}
	}
	return only.Args()
}

// AgentFlags are the settings an agent takes, besides the name.
var AgentFlags = []string{
	"data-dir", "run-dir", "node-name", "node-ip", "server", "token", "ca-hash",
	"kubelet-port", "max-pods", "node-label", "runtime", "log-level", "mirror", "registry-ca",
}
