// Package tour is the experiments of `kakuri tour` as data: what each does, what is read
// on the host side and inside, which claims the readings must bear out, and how all of it
// is told in English and in Japanese.
//
// It is pure: package tour/live runs the experiments on this machine and fills in the
// readings; here they are judged and rendered. The main types are [Experiment], [Reading]
// and [Result]:
//
//	reading := &tour.E2{}
//	reading.Host.PID, reading.Inside.PID = 341499, 1
//	r := tour.Result{Experiment: tour.Experiments()[1], Reading: reading}
//	fmt.Println(r.Holds()) // true
//	fmt.Print(r.Text(ui.Screen{}))
//
// The experiments have the numbers E1 to E15; E13, applications side by side on one
// machine, is missing here, since it takes more than a moment and more than one machine's
// own programs.
//
// What it may not do: touch a kernel, a file or a clock.
package tour
