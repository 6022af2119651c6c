package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/subjects"
)

// A flag's value comes from the command line, else from the environment, else
// from the config file, else it is the default: for every flag of every command,
// here and nowhere else.

const (
	envPrefix  = "SNAPDB_"
	configFlag = "config"
	// originKey annotates a flag with where its value came from, for messages.
	originKey = "snapdb origin"
)

// settle sets the flags of cmd that its command line leaves open.
func settle(cmd *cobra.Command) error {
	file, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || !settable(f) {
			return
		}
		if value := os.Getenv(envName(f)); value != "" {
			errs = append(errs, assign(cmd, f, envName(f), []string{value}))
		} else if values, ok := file.lookup(cmd, f); ok {
			errs = append(errs, assign(cmd, f, file.path, values))
		}
	})
	return errors.Join(errs...)
}

// settable flags may come from elsewhere than the command line.
func settable(f *pflag.Flag) bool {
	return f.Name != configFlag && f.Name != "help" && f.Name != "version"
}

func envName(f *pflag.Flag) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// assign sets a flag; each of several values is one of a list.
func assign(cmd *cobra.Command, f *pflag.Flag, origin string, values []string) error {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[originKey] = []string{origin}
	for _, v := range values {
		if err := cmd.Flags().Set(f.Name, v); err != nil {
			return flagError(cmd, f.Name, invalid(f, v, err))
		}
	}
	return nil
}

// secretKey annotates a flag whose value nobody should see.
const secretKey = "snapdb secret"

func printConfigFlag(f *pflag.FlagSet, print *bool) {
	f.BoolVar(print, "print-config", false, "print the settings in force and where each comes from, and end")
}

// printSettings shows the flags of a command as they are now, and facts that follow from
// them.
func printSettings(cmd *cobra.Command, facts ...[2]string) error {
	var rows [][]string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == configFlag && !f.Changed || f.Name == "print-config" {
			return
		}
		value, from := f.Value.String(), "default"
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ", ")
		}
		if f.Changed {
			from = "command line"
		}
		if origin := f.Annotations[originKey]; len(origin) > 0 {
			from = origin[0]
		}
		if f.Annotations[secretKey] != nil && value != "" {
			value = "(not shown)"
		}
		rows = append(rows, []string{f.Name, value, from})
	})
	if err := printTable(cmd.OutOrStdout(), []string{"SETTING", "VALUE", "FROM"}, rows); err != nil {
		return err
	}
	for _, fact := range facts {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", fact[0], fact[1]); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// parseError is what is wrong with the flags of a command line, in words of people.
func parseError(cmd *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) {
		return flagError(cmd, wrong.GetFlag().Name, invalid(wrong.GetFlag(), wrong.GetValue(), err))
	}
	return usageError(err)
}

// invalid says what a flag's value must be. err is why it was not taken.
func invalid(f *pflag.Flag, value string, err error) error {
	what := map[string]string{
		"bool": "true or false", "duration": "a duration like 500ms, 10s or 2m", "stringToString": "KEY=VALUE",
		"float64": "a number", "int": "a whole number", "int64": "a whole number", "uint64": "a whole number from 0",
	}[f.Value.Type()]
	switch {
	case what == "":
		return fmt.Errorf("invalid value %q", value)
	case errors.Is(err, strconv.ErrRange):
		what += " that fits 64 bits"
	}
	return fmt.Errorf("must be %s, not %q", what, value)
}

// flagError is a usage error that names the flag, and where its value came from
// if it was not the command line.
func flagError(cmd *cobra.Command, name string, err error) error {
	from := ""
	if f := cmd.Flags().Lookup(name); f != nil && len(f.Annotations[originKey]) > 0 {
		from = " (from " + f.Annotations[originKey][0] + ")"
	}
	return usageError(fmt.Errorf("--%s%s: %w", name, from, err))
}

// config is what a config file says: a JSON object whose keys are names of flags,
// or names of commands with an object of flags for that command only.
type config struct {
	path   string
	values map[string][]string // "server", "master.data", …
}

// loadConfig reads the file of --config or SNAPDB_CONFIG, which must exist, or
// the default one if it does.
func loadConfig(cmd *cobra.Command) (*config, error) {
	path, err := cmd.Flags().GetString(configFlag)
	if err != nil {
		return nil, fmt.Errorf("find the config file: %w", err)
	}
	if path == "" {
		path = os.Getenv(envPrefix + "CONFIG")
	}
	must := path != ""
	if !must {
		path = defaultConfig()
	}
	c := &config{path: path, values: map[string][]string{}}
	data, err := os.ReadFile(path)
	switch {
	case path == "" || !must && errors.Is(err, fs.ErrNotExist):
		return c, nil
	case !must && errors.Is(err, fs.ErrPermission):
		// Most likely the home directory is another user's, as behind sudo.
		fmt.Fprintf(cmd.ErrOrStderr(), "note: no config file is read: %v\n", err)
		return c, nil
	case err != nil:
		return nil, usageError(fmt.Errorf("--config: %w", err))
	}
	if err := c.parse(data, cmd.Root()); err != nil {
		return nil, usageError(fmt.Errorf("config file %s: %w", path, err))
	}
	return c, nil
}

// defaultConfig is where the config file is looked for, "" if nowhere.
func defaultConfig() string {
	if dir := os.Getenv("CONFIGURATION_DIRECTORY"); dir != "" {
		return filepath.Join(dir, "snapdb.json")
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "" // no home, no config file
	}
	return filepath.Join(dir, "snapdb", "snapdb.json")
}

func (c *config) parse(data []byte, root *cobra.Command) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a number is for the flag to read, as it was written
	var values map[string]any
	if err := d.Decode(&values); err != nil {
		return fmt.Errorf(`not a JSON object like {"server": "nats://…", "master": {"data": "…"}}: %w`, subjects.PlainJSON(data, err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return c.take(root, values, "")
}

// take keeps the values meant for cmd and the commands below it. A key that is no
// name of theirs is an error: it would be a setting that silently does nothing.
func (c *config) take(cmd *cobra.Command, values map[string]any, path string) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := path + key
		inner, isObject := values[key].(map[string]any)
		if sub := child(cmd, key); sub != nil && isObject {
			if err := c.take(sub, inner, name+"."); err != nil {
				return err
			}
			continue
		}
		if !hasFlag(cmd, key) {
			return fmt.Errorf("unknown key %q: keys are names of flags, or of commands with an object of flags", name)
		}
		texts, err := flagTexts(values[key])
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		c.values[name] = texts
	}
	return nil
}

// hasFlag says whether a command or one below it has a flag of that name.
func hasFlag(cmd *cobra.Command, name string) bool {
	if f := cmd.Flags().Lookup(name); f != nil && settable(f) {
		return true
	}
	return slices.ContainsFunc(cmd.Commands(), func(sub *cobra.Command) bool { return hasFlag(sub, name) })
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

// lookup finds the values for a flag of cmd: those for the command itself, else
// those for the one above it.
func (c *config) lookup(cmd *cobra.Command, f *pflag.Flag) (values []string, ok bool) {
	for at := cmd; ; at = at.Parent() {
		_, path, below := strings.Cut(at.CommandPath(), " ")
		name := f.Name
		if below {
			name = strings.ReplaceAll(path, " ", ".") + "." + name
		}
		if values, ok := c.values[name]; ok || !below {
			return values, ok
		}
	}
}

// flagTexts is a value of the config file as a flag reads it: one text, one each
// for an array's elements, KEY=VALUE for an object's.
func flagTexts(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case json.Number:
		return []string{v.String()}, nil
	case bool:
		return []string{strconv.FormatBool(v)}, nil
	case []any:
		var all []string
		for _, e := range v {
			texts, err := flagTexts(e)
			if err != nil {
				return nil, err
			}
			all = append(all, texts...)
		}
		return all, nil
	case map[string]any:
		var all []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			text, ok := v[k].(string)
			if !ok {
				return nil, fmt.Errorf("%q must be a string", k)
			}
			all = append(all, k+"="+text)
		}
		return all, nil
	}
	return nil, errors.New("must be a string, a number, true, false or a list of them")
}
