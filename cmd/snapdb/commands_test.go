package main

import (
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Whoever asks a command what it is for gets a sentence, a text and an example,
// and a word on every flag.
func TestEveryCommandExplainsItself(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		name := cmd.CommandPath()
		if s := cmd.Short; s == "" || strings.HasSuffix(s, ".") || cmd.HasParent() && unicode.IsUpper(rune(s[0])) {
			t.Errorf("%s: short help %q: must be a few words, lower case, without a full stop", name, s)
		}
		if cmd.Long == "" {
			t.Errorf("%s has no long help", name)
		}
		if !cmd.HasSubCommands() && !strings.Contains(cmd.Example, "  "+name) {
			t.Errorf("%s has no example", name)
		}
		for _, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if len([]rune(line)) > 100 {
				t.Errorf("%s: a line of the help is longer than 100 characters: %q", name, line)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s is not explained", name, f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(rootCommand())
}
