// What a program written in JavaScript does with a cluster. It prints a line for
// each thing that worked and ends with an error at the first that did not.
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const namespace = 'javascript';
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);

// as asks for another content type of a patch.
const as = (type) => k8s.setHeaderOptions('Content-Type', type);

// sink collects what is written to it; until resolves once the text so far matches.
function sink() {
  let text = '';
  const waiting = new Set();
  const stream = new Writable({
    write(chunk, _, done) {
      text += chunk;
      for (const w of waiting) if (w.pattern.test(text)) (waiting.delete(w), w.resolve(text));
      done();
    },
  });
  const until = (pattern) => new Promise((resolve) => {
    if (pattern.test(text)) resolve(text);
    else waiting.add({ pattern, resolve });
  });
  return { stream, until, text: () => text };
}

// watch follows a list from a version until an event satisfies enough, and
// returns the events as 'TYPE name'.
function watch(path, query, enough) {
  const seen = [];
  return new Promise((resolve, reject) => {
    let request;
    new k8s.Watch(config).watch(path, query, (type, object) => {
      seen.push(`${type} ${object.metadata.name}`);
      if (enough(type, object)) {
        resolve(seen);
        request?.abort();
      }
    }, (err) => reject(err ?? new Error('the watch ended early')))
      .then((r) => { request = r; }, reject);
  });
}

async function refused(code, reason, promise) {
  const err = await promise.then(() => assert.fail('was not refused'), (e) => e);
  assert.ok(err instanceof k8s.ApiException, err);
  const status = typeof err.body === 'string' ? JSON.parse(err.body) : err.body;
  assert.deepEqual([err.code, status.kind, status.reason], [code, 'Status', reason]);
  return status;
}

const pod = (name, command) => ({
  metadata: { name, labels: { app: name } },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: 'busybox.test/busybox:1', command }],
  },
});

const steps = {
  async versionAndDiscovery() {
    const version = await config.makeApiClient(k8s.VersionApi).getCode();
    assert.equal(version.minor, '37');
    const groups = await config.makeApiClient(k8s.ApisApi).getAPIVersions();
    assert.ok(groups.groups.some((g) => g.name === 'apps'));
    const { resources } = await core.getAPIResources();
    assert.ok(resources.some((r) => r.name === 'pods/exec'));
  },

  async healthAndMetrics() {
    const health = new k8s.Health(config);
    assert.deepEqual([await health.livez({}), await health.readyz({})], [true, true]);
    assert.equal((await new k8s.Metrics(config).getNodeMetrics()).kind, 'NodeMetricsList');
  },

  async createAndList() {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    for (const n of ['a', 'b', 'c']) {
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: n, labels: { set: 'letters' } }, data: { letter: n } } });
    }
    const names = [];
    let next;
    do {
      const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'set=letters', limit: 2, _continue: next });
      names.push(...page.items.map((i) => i.metadata.name));
      next = page.metadata._continue;
    } while (next);
    assert.deepEqual(names, ['a', 'b', 'c']);
    const { items: [node] } = await core.listNode();
    assert.ok(node.metadata.creationTimestamp instanceof Date);
  },

  async errors() {
    await refused(404, 'NotFound', core.readNamespacedConfigMap({ namespace, name: 'none' }));
    await refused(409, 'AlreadyExists', core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } }));
    const { details } = await refused(422, 'Invalid', core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'A' } } }));
    assert.equal(details.causes[0].field, 'metadata.name');
  },

  async replaceAndConflict() {
    const a = await core.readNamespacedConfigMap({ namespace, name: 'a' });
    a.data.letter = 'alpha';
    const b = await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: a });
    assert.notEqual(b.metadata.resourceVersion, a.metadata.resourceVersion);
    await refused(409, 'Conflict', core.replaceNamespacedConfigMap({ namespace, name: 'a', body: a }));
  },

  async patches() {
    const name = 'b';
    await core.patchNamespacedConfigMap({ namespace, name, body: [{ op: 'add', path: '/data/json', value: '1' }] });
    await core.patchNamespacedConfigMap({ namespace, name, body: { data: { merge: '2', letter: null } } }, as(k8s.PatchStrategy.MergePatch));
    await core.patchNamespacedConfigMap({ namespace, name, body: { data: { strategic: '3' } } }, as(k8s.PatchStrategy.StrategicMergePatch));
    const apply = (fieldManager, value, force) => core.patchNamespacedConfigMap({
      namespace, name, fieldManager, force,
      body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { applied: value } },
    }, as(k8s.PatchStrategy.ServerSideApply));
    await apply('one', '4');
    await refused(409, 'Conflict', apply('two', '5'));
    const got = await apply('two', '5', true);
    assert.deepEqual(got.data, { json: '1', merge: '2', strategic: '3', applied: '5' });
    assert.ok(got.metadata.managedFields.some((f) => f.manager === 'two' && f.operation === 'Apply'));
  },

  async watches() {
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const { metadata: { resourceVersion } } = await core.listNamespacedConfigMap({ namespace });
    const events = watch(path, { resourceVersion, labelSelector: 'set=letters' }, (type) => type === 'DELETED');
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'd', labels: { set: 'letters' } } } });
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'other' } } });
    await core.patchNamespacedConfigMap({ namespace, name: 'd', body: { data: { x: 'y' } } }, as(k8s.PatchStrategy.MergePatch));
    await core.deleteNamespacedConfigMap({ namespace, name: 'd' });
    assert.deepEqual(await events, ['ADDED d', 'MODIFIED d', 'DELETED d']);
  },

  async informers() {
    const list = () => core.listNamespacedConfigMap({ namespace });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
    const gone = new Promise((resolve, reject) => {
      informer.on('delete', (o) => o.metadata.name === 'c' && resolve());
      informer.on('error', reject);
    });
    await informer.start();
    assert.equal(informer.get('c', namespace).data.letter, 'c');
    await core.deleteNamespacedConfigMap({ namespace, name: 'c' });
    await gone;
    assert.equal(informer.get('c', namespace), undefined);
    await informer.stop();
  },

  async objectsOfAnyKind() {
    const objects = k8s.KubernetesObjectApi.makeApiClient(config);
    const [definition, object] = k8s.loadAllYaml(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.org}
spec:
  group: example.org
  names: {kind: Boat, plural: boats}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: example.org/v1
kind: Boat
metadata: {name: ferry, namespace: ${namespace}}
spec: {seats: 12}
`);
    await objects.create(definition);
    await watch('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {}, (_, o) =>
      o.metadata.name === 'boats.example.org' && o.status?.conditions?.some((c) => c.type === 'Established' && c.status === 'True'));
    await objects.create(object);
    const custom = config.makeApiClient(k8s.CustomObjectsApi);
    const where = { group: 'example.org', version: 'v1', plural: 'boats', namespace, name: 'ferry' };
    await custom.patchNamespacedCustomObjectStatus({ ...where, body: [{ op: 'add', path: '/status', value: { afloat: true } }] });
    assert.deepEqual((await custom.getNamespacedCustomObject(where)).status, { afloat: true });
    assert.equal((await objects.list('example.org/v1', 'Boat', namespace)).items.length, 1);
    await objects.delete(object);
    await objects.delete(definition);
  },

  async deployments() {
    await apps.createNamespacedDeployment({
      namespace,
      body: {
        metadata: { name: 'web' },
        spec: {
          replicas: 1,
          selector: { matchLabels: { app: 'web' } },
          template: { metadata: { labels: { app: 'web' } }, spec: { terminationGracePeriodSeconds: 0, containers: [{ name: 'web', image: 'sagong.local/hello:v1' }] } },
        },
      },
    });
    const scale = await apps.patchNamespacedDeploymentScale({ namespace, name: 'web', body: [{ op: 'replace', path: '/spec/replicas', value: 2 }] });
    assert.deepEqual([scale.kind, scale.spec.replicas], ['Scale', 2]);
    await watch(`/apis/apps/v1/namespaces/${namespace}/deployments`, {}, (_, d) => d.status?.readyReplicas === 2);
  },

  async logs() {
    const body = pod('talk', ['sh', '-c', 'echo first; echo last']);
    body.spec.restartPolicy = 'Never';
    await core.createNamespacedPod({ namespace, body });
    await watch(`/api/v1/namespaces/${namespace}/pods`, { fieldSelector: 'metadata.name=talk' }, (_, p) => p.status.phase === 'Succeeded');
    const out = sink();
    await new k8s.Log(config).log(namespace, 'talk', 'main', out.stream, { follow: true });
    assert.equal(await out.until(/last\n/), 'first\nlast\n');
    assert.equal(await core.readNamespacedPodLog({ namespace, name: 'talk', tailLines: 1 }), 'last\n');
  },

  async execAndFollow() {
    await core.createNamespacedPod({ namespace, body: pod('shell', ['sh', '-c', 'mkfifo /tmp/pipe; echo ready; while cat /tmp/pipe; do :; done']) });
    await watch(`/api/v1/namespaces/${namespace}/pods`, { fieldSelector: 'metadata.name=shell' }, (_, p) => p.status?.containerStatuses?.[0].ready);
    const log = sink();
    const following = await new k8s.Log(config).log(namespace, 'shell', 'main', log.stream, { follow: true });
    await log.until(/^ready$/m);

    const exec = new k8s.Exec(config);
    const run = (command, input) => new Promise((resolve, reject) => {
      const out = sink(), err = sink();
      const stdin = input === undefined ? null : new PassThrough();
      exec.exec(namespace, 'shell', 'main', command, out.stream, err.stream, stdin, false,
        (status) => resolve({ status, out: out.text(), err: err.text() })).catch(reject);
      stdin?.end(input);
    });
    const both = await run(['sh', '-c', 'echo out; echo err >&2; exit 3']);
    assert.deepEqual([both.out, both.err, both.status.reason], ['out\n', 'err\n', 'NonZeroExitCode']);
    assert.equal(both.status.details.causes[0].message, '3');
    const typed = await run(['sh', '-c', 'read line; echo "got $line"; echo "$line" > /tmp/pipe'], 'hello\n');
    assert.deepEqual([typed.out, typed.status.status], ['got hello\n', 'Success']);
    await log.until(/^hello$/m);
    following.abort();
  },

  async portForward() {
    const { items: [web] } = await core.listNamespacedPod({ namespace, labelSelector: 'app=web' });
    const forward = new k8s.PortForward(config);
    const server = createServer((socket) => {
      forward.portForward(namespace, web.metadata.name, [8080], socket, null, socket);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const page = sink();
    const socket = connect(server.address().port, '127.0.0.1');
    socket.pipe(page.stream);
    socket.write('GET / HTTP/1.1\r\nHost: web\r\n\r\n');
    await page.until(new RegExp(`pod: ${web.metadata.name}`));
    socket.destroy();
    server.close();
  },

  async deletion() {
    await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'set=letters' });
    const { metadata: { resourceVersion } } = await core.listNamespace();
    await core.deleteNamespace({ name: namespace, propagationPolicy: 'Foreground' });
    await watch('/api/v1/namespaces', { resourceVersion }, (type, o) => type === 'DELETED' && o.metadata.name === namespace);
    await refused(404, 'NotFound', core.readNamespace({ name: namespace }));
  },
};

for (const [name, step] of Object.entries(steps)) {
  await step();
  console.log(`ok ${name}`);
}
process.exit(0);
