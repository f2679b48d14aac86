import subprocess,collections,sys
so='/work/build_perf/_core.cpython-311-x86_64-linux-gnu.so'
out=subprocess.run("perf script -i /work/exp/p.data -F ip,sym,dso --show-mmap-events 2>/dev/null",shell=True,capture_output=True,text=True).stdout.splitlines()
base=None;ips=[]
for l in out:
    if 'MMAP' in l:
        if '_core.cpython' in l and 'r-x' in l:
            import re
            m=re.search(r'\[0x([0-9a-f]+)\(0x([0-9a-f]+)\) @ (?:0x)?([0-9a-f]+)',l); base=(int(m[1],16),int(m[2],16),int(m[3],16))
        continue
    p=l.split()
    if not p: continue
    try: ip=int(p[0],16)
    except: continue
    if base and base[0]<=ip<base[0]+base[1]: ips.append(ip-base[0]+base[2])
print(len(ips), 'samples in core', base)
# file offset->vaddr: find segment
seg=subprocess.run(['readelf','-lW',so],capture_output=True,text=True).stdout
off=0
for l in seg.splitlines():
    if 'LOAD' in l and 'R E' in l:
        q=l.split(); off=int(q[2],16)-int(q[1],16)
c=collections.Counter(i+off for i in ips)
addrs=list(c)
r=subprocess.run(['addr2line','-e',so]+[hex(a) for a in addrs],capture_output=True,text=True).stdout.splitlines()
lines=collections.Counter(); files=collections.Counter()
for a,l in zip(addrs,r):
    l=l.split(' ')[0].replace('/work/main/cpp/','')
    lines[l]+=c[a]; files[l.split(':')[0]]+=c[a]
n=len(ips)
print([(f.split('/')[-1],f"{100*k/n:.1f}") for f,k in files.most_common(14)])
for l,k in lines.most_common(60): print(f"{100*k/n:5.1f} {l}")
