package kubelet_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod that writes more than an emptyDir may hold is evicted; a log that grows
// gets a new file, and a reader that follows it loses no line.
func TestRealStorage(t *testing.T) {
	m := newRealMachine(t)
	m.close()
	m.cfg.Resource.Interval = 200 * time.Millisecond
	m.cfg.Resource.LogMaxSize = 2000
	m.open()
	c := shell("a", "dd if=/dev/zero of=/work/f bs=1024 count=3000 2>/dev/null || head -c 3000000 /dev/zero > /work/f; sleep 1000")
	c.VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}}
	m.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "big"}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{c},
		Volumes: []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: quantity("1Mi")}}}}}})
	p := m.await("big", "evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || p.Status.Message != `Usage of EmptyDir volume "work" exceeds the limit "1Mi". ` {
		t.Errorf("status is %s: %s", p.Status.Reason, p.Status.Message)
	}

	m.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "talk"}, Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{shell("a", "i=0; while [ $i -lt 150 ]; do echo this is line number $i; i=$((i+1)); while [ $i -eq 140 -a ! -e /tmp/go ]; do sleep 0.01; done; sleep 0.01; done")}}})
	p = m.await("talk", "running", running)
	s := httptest.NewServer(m.agent.Handler(nil))
	defer s.Close()
	r, err := http.Get(s.URL + "/containerLogs/default/talk/a?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var files []string
	m.eventually("the log is rotated", func() bool {
		files, _ = filepath.Glob(filepath.Join(m.cfg.Dir, "logs", "default_talk_*", "a", "*"))
		return len(files) > 1
	})
	m.sh(p, "a", "touch /tmp/go")
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 150 || lines[149] != "this is line number 149" {
		t.Errorf("%d lines: %.200q ... %q", len(lines), data, lines[len(lines)-1])
	}
	// Logs outlive the container's end.
	m.await("talk", "succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	// As upstream's, the tail is that of the current file, which a rotation after
	// the last line has left empty.
	empty := func() bool {
		current, err := os.Stat(filepath.Join(filepath.Dir(files[0]), "0.log"))
		return err != nil || current.Size() == 0
	}
	for {
		before, want := empty(), "this is line number 149\n"
		if before {
			want = ""
		}
		resp, err := http.Get(s.URL + "/containerLogs/default/talk/a?tailLines=1")
		if err != nil {
			t.Fatal(err)
		}
		tail, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if empty() != before {
			continue // rotated meanwhile
		}
		if string(tail) != want || err != nil {
			t.Errorf("the tail is %q, %v, want %q", tail, err, want)
		}
		break
	}
}
