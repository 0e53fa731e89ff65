// Package wait bounds what a signal interrupts. The kernel forgets how long such a call has waited, signal(7), and where signals come often, as
// those of a parent's children and of Go's own preemption do, a call that is simply made again can wait for ever: so each has what is left of its time.
// And it has changes of files be waited for, also where there is no inotify(7) left.
package wait
