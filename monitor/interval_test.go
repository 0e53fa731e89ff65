package monitor

import (
	"testing"
	"time"
)

// An interval lasts until all have gone who have it last longer, and none of them comes in late.
func TestInterval(t *testing.T) {
	var i interval
	a, b := &client{}, &client{}
	if i.postpone(a) == nil {
		t.Error("a run was postponed that there is")
	}
	i.begin()
	for _, c := range []*client{a, b} {
		if err := i.postpone(c); err != nil {
			t.Error(err)
		}
	}
	free := i.end()
	i.drop(a)
	select {
	case <-free:
		t.Error("it ended with the first of two")
	default:
	}
	i.drop(b)
	<-free
	if i.end() != nil {
		t.Error("it lasts for nobody")
	}
	if i.postpone(a) == nil {
		t.Error("a run was postponed that has begun")
	}
	i.drop(a)
	i.begin()
	if i.end() != nil {
		t.Error("the next interval lasts for who has gone")
	}
	held := make(chan bool)
	go func() {
		i.hold(a)
		held <- true
	}()
	select {
	case <-held:
		t.Error("it was held while the container was started")
	case <-time.After(20 * time.Millisecond):
	}
	i.started()
	<-held
	i.hold(b)
	i.begin()
	if free = i.end(); free == nil {
		t.Fatal("it does not last for who asked before it began")
	}
	i.drop(a)
	i.drop(b)
	<-free
}
