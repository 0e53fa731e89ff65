package uplink_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
)

// BenchmarkStream: a stream from the container to the outside, and one back. KAKURI_PASTA names a pasta that PATH does not find.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	for _, mode := range []string{uplink.Builtin, uplink.Pasta, "published"} {
		b.Run(mode, func(b *testing.B) {
			p := newPlace(b)
			p.pasta = os.Getenv("KAKURI_PASTA")
			way, server, client, at := mode, p.outside, p.container, outsideAddr4+":9"
			if mode == "published" {
				way, server, client, at = uplink.Builtin, p.container, p.outside, hostAddr4+":8009"
			}
			p.start(way)
			patient := func(c net.Conn) net.Conn { c.SetDeadline(time.Now().Add(patience)); return c }
			port := ":9"
			sink := func(c *net.TCPConn) { io.Copy(io.Discard, plain{patient(c)}); c.CloseWrite() }
			source := func(c *net.TCPConn) { io.Copy(plain{patient(c)}, io.LimitReader(zeros{}, size)) }
			server.listen(b, port, func(c *net.TCPConn) {
				one := make([]byte, 1)
				if io.ReadFull(c, one); one[0] == 'u' {
					sink(c)
				} else {
					source(c)
				}
			})
			if mode == "published" {
				q := publish("tcp", "0.0.0.0", 8009, 9)
				p.must(request{Op: "publish", Owner: "bench", Ports: []plan.Publish{q}})
			}
			for _, way := range []string{"up", "down"} {
				b.Run(way, func(b *testing.B) {
					b.SetBytes(size)
					for b.Loop() {
						c := client.dial(b, "tcp", at)
						c.Write([]byte(way[:1]))
						var err error
						if way == "up" {
							if _, err = io.Copy(plain{c}, io.LimitReader(zeros{}, size)); err == nil {
								c.(*net.TCPConn).CloseWrite()
								_, err = io.Copy(io.Discard, plain{c})
							}
						} else {
							var n int64
							if n, err = io.Copy(io.Discard, plain{c}); n != size {
								b.Errorf("%d bytes", n)
							}
						}
						if err != nil {
							b.Fatal(err)
						}
						c.Close()
					}
				})
			}
		})
	}
}

// plain has none of the library's short ways.
type plain struct{ rw net.Conn }

func (p plain) Read(b []byte) (int, error)  { return p.rw.Read(b) }
func (p plain) Write(b []byte) (int, error) { return p.rw.Write(b) }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
