package queue

import "testing"

// TestBound: what was taken counts until it is done, and one that is larger than the queue passes alone.
func TestBound(t *testing.T) {
	q := New[string](100)
	if !q.Put("a", 60) || q.Put("b", 41) || !q.Put("c", 40) {
		t.Error("a queue of 100 bytes takes 60 and 40, and not 41 beside 60")
	}
	<-q.Filled()
	if list := q.Take(); len(list) != 2 || list[0] != "a" || list[1] != "c" {
		t.Errorf("took %q", list)
	}
	if q.Put("d", 1) {
		t.Error("what was taken and is not done counts")
	}
	q.Done(100)
	if !q.Put("e", 1000) || q.Put("f", 1) {
		t.Error("one of 1000 bytes is taken when nothing waits, and is alone")
	}
}
