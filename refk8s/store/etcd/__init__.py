"""The store on etcd v3, which several API servers share. Rules ETCD- (spec/etcd.md).

address      the URL: endpoints, prefix, TLS files
keys         keys of the store, and the keys in etcd that upstream's API server uses for them
messages     the messages of etcd's API
client       calls, errors, and the change to another endpoint
mirror       the state in memory, changed by the events of one watch
waiting      callers that wait until the mirror has reached a revision
leases       the time to live of Events
compaction   one server of several compacts etcd
store        the port `Store`, from these parts
"""
