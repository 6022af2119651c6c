package subjects_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/subjects"
	"pgregory.net/rapid"
)

// statements are all kinds of things that a master signs.
func statements() []interface{ Bytes() []byte } {
	return []interface{ Bytes() []byte }{
		&subjects.SignedLog{}, &subjects.SignedClaim{}, &subjects.SignedHeads{}, &subjects.SignedJoin{}, &subjects.SignedCommand{}, &subjects.Succession{},
	}
}

// eachField calls f for every field that v has, those of structs inside included. A
// signature covers everything but itself.
func eachField(v reflect.Value, path string, f func(path string, field reflect.Value)) {
	if v.Type() == reflect.TypeFor[subjects.Signature]() || v.Kind() == reflect.Struct && v.NumField() == 0 {
		return
	}
	if v.Kind() != reflect.Struct {
		f(path, v)
		return
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Type() == reflect.TypeFor[subjects.Succession]() && name == "Sig" {
			continue
		}
		eachField(v.Field(i), path+"."+name, f)
	}
}

// alter changes a field a little.
func alter(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Slice:
		v.SetBytes(append(bytes.Clone(v.Bytes()), 0))
	case reflect.Array:
		last := v.Index(v.Len() - 1)
		last.SetUint(last.Uint() ^ 1)
	default:
		t.Fatalf("%s: the test cannot change a %s", path, v.Kind())
	}
}

func TestWhatIsSignedCoversEveryField(t *testing.T) {
	kinds := map[string]bool{}
	for _, s := range statements() {
		kind := reflect.TypeOf(s).Elem().Name()
		zero := s.Bytes()
		head, _, _ := bytes.Cut(zero, []byte("\n"))
		if kinds[string(head)] || !strings.HasPrefix(string(head), "snapdb ") {
			t.Errorf("%s begins with %q, as others do, or with nothing of its own", kind, head)
		}
		kinds[string(head)] = true
		fields := 0
		eachField(reflect.ValueOf(s).Elem(), kind, func(path string, field reflect.Value) {
			fields++
			before := s.Bytes()
			alter(t, path, field)
			if bytes.Equal(s.Bytes(), before) {
				t.Errorf("%s is not covered by the signature", path)
			}
		})
		if fields < 2 {
			t.Errorf("%s: %d fields were looked at", kind, fields)
		}
	}
}

// Fields do not run into each other: what differs is signed differently.
func TestWhatIsSignedIsOfOneMeaning(t *testing.T) {
	short := rapid.SampledFrom([]string{"", "a", "aa", "\x00\x00\x00\x00\x00\x00\x00\x01a"})
	gen := rapid.Custom(func(t *rapid.T) subjects.SignedCommand {
		return subjects.SignedCommand{Cluster: short.Draw(t, "cluster"), Node: short.Draw(t, "node"), ID: short.Draw(t, "id"), Op: subjects.Op(short.Draw(t, "op"))}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		if bytes.Equal(a.Bytes(), b.Bytes()) != reflect.DeepEqual(a, b) {
			t.Fatalf("%#v and %#v are signed alike, or not although they are", a, b)
		}
	})
}

func genSignature() *rapid.Generator[subjects.Signature] {
	return rapid.Custom(func(t *rapid.T) (s subjects.Signature) {
		copy(s.Key[:], rapid.SliceOfN(rapid.Byte(), len(s.Key), len(s.Key)).Draw(t, "key"))
		copy(s.Sig[:], rapid.SliceOfN(rapid.Byte(), len(s.Sig), len(s.Sig)).Draw(t, "sig"))
		s.Sig[0] |= 1
		return s
	})
}

func TestSeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := subjects.Seal{Signature: genSignature().Draw(t, "signature"), Node: "s1", Expires: rapid.Int64().Draw(t, "expires")}
		if got, err := subjects.DecodeSeal(subjects.EncodeSeal(want)); err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
	})
	if got, err := subjects.DecodeSeal(map[string][]string{"Other": {"x"}, subjects.HeaderNode: {"s1"}}); err != nil || got != (subjects.Seal{}) {
		t.Errorf("without a signature: %+v, %v", got, err)
	}
	good := subjects.Seal{Node: "s1", Expires: 1}
	good.Sig[0] = 1
	sig := subjects.EncodeSeal(good)[subjects.HeaderSig][0]
	for name, all := range map[string][][]string{
		subjects.HeaderSig:     {nil, {sig, sig}, {sig[1:]}, {sig + "AAAA"}, {sig[:len(sig)-3] + "B=="}, {sig + "\n"}, {strings.Repeat("A", 86) + "=="}},
		subjects.HeaderKey:     {nil, {""}, {"00"}, {"000000000000000G"}, {"ABCDEF0123456789"}, {"00000000000000001"}},
		subjects.HeaderNode:    {nil, {""}, {"a.b"}, {"master"}, {"a", "a"}},
		subjects.HeaderExpires: {nil, {""}, {"01"}, {"1.5"}, {"9223372036854775808"}, {"1", "1"}},
	} {
		for _, values := range all {
			m := subjects.EncodeSeal(good)
			m[name] = values
			if got, err := subjects.DecodeSeal(m); !errors.Is(err, subjects.ErrMalformed) {
				t.Errorf("%s %q: %+v, %v, want ErrMalformed", name, values, got, err)
			}
		}
	}
}

func FuzzSeal(f *testing.F) {
	f.Add(strings.Repeat("A", 85)+"Q==", "0123456789abcdef", "s1", "1795392000123")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, sig, key, node, expires string) {
		got, err := subjects.DecodeSeal(map[string][]string{
			subjects.HeaderSig: {sig}, subjects.HeaderKey: {key}, subjects.HeaderNode: {node}, subjects.HeaderExpires: {expires},
		})
		if refusedOr(t, err) {
			return
		}
		m := subjects.EncodeSeal(got)
		if again, err := subjects.DecodeSeal(m); err != nil || again != got || m[subjects.HeaderSig][0] != sig || m[subjects.HeaderKey][0] != key {
			t.Fatalf("%+v, %v, want %+v", again, err, got)
		}
	})
}
