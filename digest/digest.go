package digest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"strings"
)

// A Digest is text such as sha256:e3b0c4…. What comes from elsewhere is to be validated first: the other methods want a colon in it.
type Digest string

// An Algorithm is the name of a hash.
type Algorithm string

const (
	SHA256 Algorithm = "sha256"
	SHA384 Algorithm = "sha384"
	SHA512 Algorithm = "sha512"
)

var (
	ErrFormat      = errors.New("invalid checksum digest format")
	ErrLength      = errors.New("invalid checksum digest length")
	ErrUnsupported = errors.New("unsupported digest algorithm")
)

// FromBytes is the SHA-256 of bytes.
func FromBytes(p []byte) Digest { return SHA256.FromBytes(p) }

// FromString is the SHA-256 of a text.
func FromString(s string) Digest { return SHA256.FromBytes([]byte(s)) }

// NewDigest is what a hash has come to.
func NewDigest(a Algorithm, h hash.Hash) Digest { return NewDigestFromBytes(a, h.Sum(nil)) }

// NewDigestFromBytes is the digest of a sum.
func NewDigestFromBytes(a Algorithm, sum []byte) Digest {
	return NewDigestFromEncoded(a, hex.EncodeToString(sum))
}

// NewDigestFromEncoded is the digest of a sum in hexadecimal.
func NewDigestFromEncoded(a Algorithm, encoded string) Digest {
	return Digest(string(a) + ":" + encoded)
}

func (d Digest) String() string { return string(d) }

// Algorithm is what stands before the colon.
func (d Digest) Algorithm() Algorithm { return Algorithm(d[:d.colon()]) }

// Encoded is what stands behind the colon.
func (d Digest) Encoded() string { return string(d[d.colon()+1:]) }

// colon panics without one, as a caller does who has validated nothing.
func (d Digest) colon() int {
	i := strings.IndexByte(string(d), ':')
	if i < 0 {
		panic("no colon in digest " + string(d))
	}
	return i
}

// Validate says whether it is a digest of an algorithm that is known here: ErrFormat, ErrLength, ErrUnsupported.
func (d Digest) Validate() error {
	a, sum, _ := strings.Cut(string(d), ":")
	if a == "" || sum == "" {
		return ErrFormat
	}
	size := Algorithm(a).size()
	switch {
	case size == 0 && wellFormed(a, sum):
		return ErrUnsupported
	case size == 0:
		return ErrFormat
	case len(sum) != 2*size:
		return ErrLength
	case strings.Trim(sum, "0123456789abcdef") != "":
		return ErrFormat
	}
	return nil
}

const (
	lower = "abcdefghijklmnopqrstuvwxyz0123456789"
	every = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ=_-"
)

// wellFormed reports whether a digest of a strange algorithm is one by its form: parts of the algorithm's name are joined by one of + . _ -.
func wellFormed(a, sum string) bool {
	for part := range strings.SplitSeq(strings.NewReplacer("+", ".", "_", ".", "-", ".").Replace(a), ".") {
		if part == "" || strings.Trim(part, lower) != "" {
			return false
		}
	}
	return strings.Trim(sum, every) == ""
}

// size is that of a sum in bytes, 0 for a strange algorithm.
func (a Algorithm) size() int {
	switch a {
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return 0
}

func (a Algorithm) String() string { return string(a) }

// Hash begins a hash. It panics for an algorithm that is not known here.
func (a Algorithm) Hash() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	panic("digest algorithm " + string(a) + " is not known")
}

// FromBytes is the digest of bytes.
func (a Algorithm) FromBytes(p []byte) Digest {
	h := a.Hash()
	h.Write(p)
	return NewDigest(a, h)
}

// Digester begins a digest of what is written to its Hash.
func (a Algorithm) Digester() Digester { return Digester{a, a.Hash()} }

// A Digester is a digest under way.
type Digester struct {
	a Algorithm
	h hash.Hash
}

func (d Digester) Hash() hash.Hash { return d.h }

// Digest is that of what was written so far.
func (d Digester) Digest() Digest { return NewDigest(d.a, d.h) }
