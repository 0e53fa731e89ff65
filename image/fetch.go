package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// accept are the documents that we can read.
func accept() http.Header {
	return http.Header{"Accept": {strings.Join([]string{
		v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, dockerIndex, dockerManifest}, ", ")}}
}

// head asks what a tag leads to. The digest is the registry's word, and nothing was compared with it; it may be empty.
func (r *remote) head(ctx context.Context, id string) (digest.Digest, error) {
	resp, err := r.do(ctx, &request{method: http.MethodHead, path: r.repo + "/manifests/" + id, scope: "pull", header: accept(), ok: []int{200}})
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if validDigest(d) != nil {
		d = ""
	}
	return d, nil
}

// document fetches an index or a manifest by a tag or a digest, and checks it. want is what another document said of it.
func (r *remote) document(ctx context.Context, id string, want *v1.Descriptor) (*document, error) {
	p := r.net.patience()
	for try := 1; ; try++ {
		doc, err := r.documentOnce(ctx, id, want)
		if err == nil || ctx.Err() != nil || try >= p.tries {
			return doc, err
		}
		var cut *cutError
		if !errors.As(err, &cut) {
			return nil, err
		}
		if err := r.pause(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

// A cutError is an answer that ended too early.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

func (r *remote) documentOnce(ctx context.Context, id string, want *v1.Descriptor) (*document, error) {
	resp, err := r.do(ctx, &request{method: http.MethodGet, path: r.repo + "/manifests/" + id, scope: "pull", header: accept(), ok: []int{200}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	what := "registry " + r.host + ": manifest " + id
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return nil, &cutError{fmt.Errorf("%s: %w", what, err)}
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("%s: larger than %d bytes", what, maxManifest)
	}
	if resp.ContentLength >= 0 && int64(len(raw)) != resp.ContentLength {
		return nil, &cutError{fmt.Errorf("%s: %d bytes of %d came", what, len(raw), resp.ContentLength)}
	}
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("%s: Content-Type: %w", what, err)
	}
	pinned := digest.Digest(id)
	if validDigest(pinned) == nil && pinned.Algorithm().FromBytes(raw) != pinned {
		return nil, fmt.Errorf("%s: the registry sent other bytes, of %s", what, digest.FromBytes(raw))
	}
	if d := digest.Digest(resp.Header.Get("Docker-Content-Digest")); validDigest(d) == nil && d.Algorithm().FromBytes(raw) != d {
		return nil, fmt.Errorf("%s: the registry sent other bytes than those of its Docker-Content-Digest %s", what, d)
	}
	if want != nil {
		if int64(len(raw)) != want.Size {
			return nil, fmt.Errorf("%s: %d bytes, and its index says %d", what, len(raw), want.Size)
		}
		if mediaType != want.MediaType {
			return nil, fmt.Errorf("%s: media type %q, and its index says %q", what, mediaType, want.MediaType)
		}
	}
	doc, err := parseDocument(raw, mediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if validDigest(pinned) == nil {
		doc.desc.Digest = pinned
	}
	return doc, nil
}

// openBlob opens a blob from an offset on.
func (r *remote) openBlob(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	q := &request{method: http.MethodGet, path: r.repo + "/blobs/" + string(d.Digest), scope: "pull", ok: []int{200}, once: true, header: http.Header{}}
	if offset > 0 {
		q.header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		q.ok = []int{200, 206}
	}
	resp, err := r.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		resp.Body.Close()
		return fmt.Errorf("registry %s: blob %s: %s", r.host, d.Digest, fmt.Sprintf(format, args...))
	}
	if resp.StatusCode == http.StatusPartialContent {
		var from, to, total int64
		if n, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total); n != 3 || err != nil || from != offset || total != d.Size {
			return nil, bad("asked for bytes from %d on, got range %q", offset, printable(resp.Header.Get("Content-Range")))
		}
		return resp.Body, nil
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
		return nil, bad("it has %d bytes, and its manifest says %d", resp.ContentLength, d.Size)
	}
	if offset > 0 { // the registry does not know ranges: pass over what we have
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			resp.Body.Close()
			return nil, fmt.Errorf("registry %s: blob %s: %w", r.host, d.Digest, err)
		}
	}
	return resp.Body, nil
}

// A blobReader reads a blob of a registry to its end, whatever happens to connections: a transfer that breaks goes on where it
// was, at the next source if it must. It gives exactly the bytes of the descriptor, or an error.
type blobReader struct {
	ctx     context.Context
	sources []*remote
	desc    v1.Descriptor

	body  io.ReadCloser
	at    int64 // bytes given
	since int64 // at the last try
	tries int   // in a row, that brought little
	which int
	sum   digest.Digester
}

// enough is how much a try has to bring to count as a success: a registry that cuts each connection after a few bytes does
// not keep us for ever.
const enough = 64 << 10

func newBlobReader(ctx context.Context, sources []*remote, d v1.Descriptor) *blobReader {
	return &blobReader{ctx: ctx, sources: sources, desc: d, sum: d.Digest.Algorithm().Digester()}
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		if b.at == b.desc.Size {
			return 0, b.verify()
		}
		if b.body == nil {
			body, err := b.sources[b.which].openBlob(b.ctx, b.desc, b.at)
			if err != nil {
				if err := b.failed(err); err != nil {
					return 0, err
				}
				continue
			}
			b.body = body
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.desc.Size-b.at)])
		b.at += int64(n)
		b.sum.Hash().Write(p[:n])
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err := b.failed(fmt.Errorf("registry %s: blob %s: after %d of %d bytes: %w", b.sources[b.which].host, b.desc.Digest, b.at, b.desc.Size, err)); err != nil {
			return 0, err
		}
	}
}

func (b *blobReader) verify() error {
	if got := b.sum.Digest(); got != b.desc.Digest {
		return fmt.Errorf("registry %s: blob %s: it sent other bytes, of %s", b.sources[b.which].host, b.desc.Digest, got)
	}
	return io.EOF
}

// failed waits for the next try, or says that there is none.
func (b *blobReader) failed(cause error) error {
	b.Close()
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.at-b.since >= enough {
		b.tries = 0
	}
	b.since = b.at
	b.tries++
	source := b.sources[b.which]
	if b.tries >= source.net.patience().tries || !retryable(cause) || source.hopeless(b.tries, cause) {
		if b.which+1 == len(b.sources) {
			return cause
		}
		b.which++
		b.tries = 0
		return nil
	}
	return source.pause(b.ctx, b.tries, cause)
}

func (b *blobReader) Close() error {
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	return err
}
