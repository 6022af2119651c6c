package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/agent"
)

// systemdToken is the name of the systemd credential (LoadCredential=) that is a slave's
// token.
const systemdToken = "snapdb-token"

// maxSecret is the size of a file, in bytes, in which a secret is looked for.
const maxSecret = 64 << 10

// tokenSource is where a slave's token comes from.
type tokenSource struct{ token, file string }

func (s *tokenSource) flags(f *pflag.FlagSet) {
	f.StringVar(&s.token, "token", "", "`TOKEN` of an invitation to a secured cluster, for the first start")
	f.StringVar(&s.file, "token-file", "", "`FILE` with that token, which others cannot see there; -: standard input")
	f.Lookup("token").Annotations = map[string][]string{secretKey: {"true"}}
}

// read finds the token; "" if there is none.
func (s *tokenSource) read(cmd *cobra.Command) (string, error) {
	wrong := func(err error) error { return flagError(cmd, "token", err) }
	token, file := s.token, s.file
	switch {
	case token != "" && file != "":
		return "", usageError(errors.New("give --token or --token-file, not both"))
	case file != "":
		wrong = func(err error) error { return flagError(cmd, "token-file", err) }
	case token == "":
		if file = systemdCredential(systemdToken); file == "" {
			return "", nil
		}
		wrong = func(err error) error { return usageError(fmt.Errorf("systemd credential %s: %w", systemdToken, err)) }
	}
	if file != "" {
		var err error
		if token, err = readSecret(cmd.InOrStdin(), file); err != nil {
			return "", wrong(err)
		}
	}
	if _, err := agent.ParseToken(token); err != nil {
		return "", wrong(err)
	}
	return token, nil
}

// systemdCredential is the file of a credential that systemd has given to this service,
// "" if there is none.
func systemdCredential(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return file
}

// readSecret reads a secret, all of a file or of standard input.
func readSecret(stdin io.Reader, file string) (string, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
	switch text := strings.TrimSpace(string(data)); {
	case err != nil:
		return "", fmt.Errorf("read %s: %w", file, err)
	case len(data) > maxSecret:
		return "", fmt.Errorf("%s is too large for a secret", file)
	case text == "":
		return "", fmt.Errorf("%s is empty", file)
	default:
		return text, nil
	}
}
