"""An operator made with kopf, for test_client_libraries.py: a Greeting gets a ConfigMap.

`kopf run` reads this file in a process of its own.
"""

import kopf
import kubernetes

GREETINGS = ("example.com", "v1", "greetings")


@kopf.on.startup()
def configure(settings, **_):
    kubernetes.config.load_kube_config()
    settings.posting.loggers = True  # messages of handlers are Events


def config_maps():
    return kubernetes.client.CoreV1Api()


@kopf.on.create(*GREETINGS)
def create(spec, name, namespace, logger, **_):
    body = {"metadata": {"name": name}, "data": {"text": f"hello {spec['who']}"}}
    kopf.adopt(body)
    config_maps().create_namespaced_config_map(namespace, body)
    logger.info("made it")
    return {"made": name}


@kopf.on.update(*GREETINGS, field="spec.who")
def update(old, new, name, namespace, patch, **_):
    body = {"data": {"text": f"hello {new}"}}
    config_maps().patch_namespaced_config_map(name, namespace, body)
    patch.status["change"] = f"{old} to {new}"


@kopf.on.delete(*GREETINGS)
def delete(name, namespace, **_):
    body = {"metadata": {"name": f"{name}-is-gone"}}
    config_maps().create_namespaced_config_map(namespace, body)


@kopf.timer(*GREETINGS, interval=0.3)
def tick(status, patch, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1
