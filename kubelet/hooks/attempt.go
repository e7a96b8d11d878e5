package hooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/runtime"
)

// Attempt reads an attempt as the runtime keeps it back into the form that
// decisions are made on. The termination message is read when it has ended.
func Attempt(st runtime.ContainerStatus) pod.Attempt {
	a := pod.Attempt{ContainerStatus: st, SpecImage: st.Annotations[annotationImage]}
	a.Backoff, _ = time.ParseDuration(st.Annotations[annotationBackoff])
	if v := st.Annotations[annotationResources]; v != "" {
		var res corev1.ResourceRequirements
		if json.Unmarshal([]byte(v), &res) == nil {
			a.Resources = &res
		}
	}
	if v := st.Annotations[annotationUser]; v != "" {
		var u corev1.LinuxContainerUser
		if json.Unmarshal([]byte(v), &u) == nil {
			a.User = &corev1.ContainerUser{Linux: &u}
		}
	}
	if st.State == runtime.StateExited || st.State == runtime.StateUnknown {
		a.Message = terminationMessage(st)
	}
	return a
}

// The bounds of a termination message.
const (
	maxMessage      = 4096
	maxMessageLog   = 2048
	maxMessageLines = 80
)

// terminationMessage is what the container left in its message file, or, when
// that is empty and it failed and asked for it, the end of its log.
func terminationMessage(st runtime.ContainerStatus) string {
	path := st.Annotations[annotationMessage]
	if path == "" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return fmt.Sprintf("Error on reading termination log %s: %v", path, err)
	}
	defer f.Close()
	buf := make([]byte, maxMessage)
	n, _ := f.Read(buf)
	if n > 0 {
		return strings.ToValidUTF8(string(buf[:n]), "\ufffd")
	}
	if corev1.TerminationMessagePolicy(st.Annotations[annotationPolicy]) != corev1.TerminationMessageFallbackToLogsOnError || st.ExitCode == 0 {
		return ""
	}
	return logTail(st.LogPath)
}

// logTail is the end of a log in the CRI format, without times and streams.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	// Times and stream names take about 40 bytes a line.
	from := max(st.Size()-maxMessageLog-maxMessageLines*48, 0)
	buf := make([]byte, st.Size()-from)
	n, _ := f.ReadAt(buf, from)
	lines := strings.SplitAfter(string(buf[:n]), "\n")
	if from > 0 && len(lines) > 0 {
		lines = lines[1:]
	}
	var out []string
	for _, l := range lines {
		parts := strings.SplitN(l, " ", 4)
		if len(parts) < 4 {
			continue
		}
		text := parts[3]
		if strings.HasPrefix(parts[2], "P") {
			text = strings.TrimSuffix(text, "\n")
		}
		out = append(out, text)
	}
	if len(out) > maxMessageLines {
		out = out[len(out)-maxMessageLines:]
	}
	text := strings.Join(out, "")
	if len(text) > maxMessageLog {
		text = text[len(text)-maxMessageLog:]
	}
	return strings.ToValidUTF8(text, "\ufffd")
}
