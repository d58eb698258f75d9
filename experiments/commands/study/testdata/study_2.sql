PRAGMA application_id = 1414219347;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE chunk (
  trial INTEGER NOT NULL REFERENCES trial (number),
  chunk INTEGER NOT NULL,
  loss REAL NOT NULL,
  dense REAL NOT NULL,
  PRIMARY KEY (trial, chunk)
) WITHOUT ROWID;
INSERT INTO "chunk" VALUES(1,0,3.81959485721612956865e+00,3.82151861246426882701e+00);
INSERT INTO "chunk" VALUES(1,1,3.65039014644475523496e+00,3.65152784929745699571e+00);
INSERT INTO "chunk" VALUES(1,2,4.06216310983268868994e+00,4.06399144842600357208e+00);
INSERT INTO "chunk" VALUES(1,3,4.17085835683752481628e+00,4.15995655064090374963e+00);
INSERT INTO "chunk" VALUES(1,4,3.62693858585086914558e+00,3.62362952919408476404e+00);
INSERT INTO "chunk" VALUES(1,5,3.45821979330608053615e+00,3.45409243066999360749e+00);
INSERT INTO "chunk" VALUES(1,6,4.16704723435431656497e+00,4.1638173447226431989e+00);
INSERT INTO "chunk" VALUES(1,7,3.9744183265095420765e+00,3.97376761812696122078e+00);
INSERT INTO "chunk" VALUES(1,8,3.84201102568434071926e+00,3.83740263959459060316e+00);
INSERT INTO "chunk" VALUES(1,9,3.85116801754091708787e+00,3.85210385923703846344e+00);
INSERT INTO "chunk" VALUES(1,10,3.51595538006071839376e+00,3.51880026905904363943e+00);
INSERT INTO "chunk" VALUES(1,11,3.18855506044409064969e+00,3.18916121914991679275e+00);
INSERT INTO "chunk" VALUES(1,12,3.56547692735864441004e+00,3.56223734938602465405e+00);
INSERT INTO "chunk" VALUES(1,13,3.72903750192607796876e+00,3.73146941425135425518e+00);
INSERT INTO "chunk" VALUES(1,14,3.54796807342991282752e+00,3.54331657925246368279e+00);
INSERT INTO "chunk" VALUES(1,15,3.52509988787047090497e+00,3.52652466631245031791e+00);
INSERT INTO "chunk" VALUES(1,16,3.5079141762810550631e+00,3.50883261796517764707e+00);
INSERT INTO "chunk" VALUES(1,17,3.79595698006063564378e+00,3.79768603142032024067e+00);
INSERT INTO "chunk" VALUES(1,18,3.14776997482617471035e+00,3.15741827070912295383e+00);
INSERT INTO "chunk" VALUES(1,19,4.27067205021932849717e+00,4.26929901419616530944e+00);
INSERT INTO "chunk" VALUES(1,20,4.26012610310494821419e+00,4.26407290110749848111e+00);
INSERT INTO "chunk" VALUES(1,21,3.66271715301034150868e+00,3.65903667747252336894e+00);
INSERT INTO "chunk" VALUES(1,22,4.09367567917975350155e+00,4.0812158838953038753e+00);
INSERT INTO "chunk" VALUES(1,23,3.67306351921616514033e+00,3.67166575536633743581e+00);
INSERT INTO "chunk" VALUES(1,24,3.73602652382803812614e+00,3.74109085102568572622e+00);
INSERT INTO "chunk" VALUES(2,0,3.81875530612733715685e+00,3.82151861246426882701e+00);
INSERT INTO "chunk" VALUES(2,1,3.6488126455566618489e+00,3.65152784929745699571e+00);
INSERT INTO "chunk" VALUES(2,2,4.06960856515666691279e+00,4.06399144842600357208e+00);
INSERT INTO "chunk" VALUES(2,3,4.17992928589712509079e+00,4.15995655064090374963e+00);
INSERT INTO "chunk" VALUES(2,4,3.62263120806959593167e+00,3.62362952919408476404e+00);
INSERT INTO "chunk" VALUES(2,5,3.46172858397795657481e+00,3.45409243066999360749e+00);
INSERT INTO "chunk" VALUES(2,6,4.17399331241327242736e+00,4.1638173447226431989e+00);
INSERT INTO "chunk" VALUES(2,7,3.97357976892964348536e+00,3.97376761812696122078e+00);
INSERT INTO "chunk" VALUES(2,8,3.8384786821791170297e+00,3.83740263959459060316e+00);
INSERT INTO "chunk" VALUES(2,9,3.8443006581583856196e+00,3.85210385923703846344e+00);
INSERT INTO "chunk" VALUES(2,10,3.51361532101367401992e+00,3.51880026905904363943e+00);
INSERT INTO "chunk" VALUES(2,11,3.19129973603022376593e+00,3.18916121914991679275e+00);
INSERT INTO "chunk" VALUES(2,12,3.57342537959424388915e+00,3.56223734938602465405e+00);
INSERT INTO "chunk" VALUES(2,13,3.73186353170788587263e+00,3.73146941425135425518e+00);
INSERT INTO "chunk" VALUES(2,14,3.54394476330399,3.54331657925246368279e+00);
INSERT INTO "chunk" VALUES(2,15,3.52735044179056567159e+00,3.52652466631245031791e+00);
INSERT INTO "chunk" VALUES(2,16,3.50928779852574690423e+00,3.50883261796517764707e+00);
INSERT INTO "chunk" VALUES(2,17,3.79446626478368465029e+00,3.79768603142032024067e+00);
INSERT INTO "chunk" VALUES(2,18,3.14544334087648,3.15741827070912295383e+00);
INSERT INTO "chunk" VALUES(2,19,4.27200836452322,4.26929901419616530944e+00);
INSERT INTO "chunk" VALUES(2,20,4.24984570614497414453e+00,4.26407290110749848111e+00);
INSERT INTO "chunk" VALUES(2,21,3.66104716990149814392e+00,3.65903667747252336894e+00);
INSERT INTO "chunk" VALUES(2,22,4.0949108063504606747e+00,4.0812158838953038753e+00);
INSERT INTO "chunk" VALUES(2,23,3.6754150357878008215e+00,3.67166575536633743581e+00);
INSERT INTO "chunk" VALUES(2,24,3.7400909280114547073e+00,3.74109085102568572622e+00);
INSERT INTO "chunk" VALUES(3,0,3.81995563427289486213e+00,3.82151861246426882701e+00);
INSERT INTO "chunk" VALUES(3,1,3.65172984984362258842e+00,3.65152784929745699571e+00);
INSERT INTO "chunk" VALUES(3,2,4.05977092382522908309e+00,4.06399144842600357208e+00);
INSERT INTO "chunk" VALUES(3,3,4.16272953523508615347e+00,4.15995655064090374963e+00);
INSERT INTO "chunk" VALUES(3,4,3.63016123276431823541e+00,3.62362952919408476404e+00);
INSERT INTO "chunk" VALUES(3,5,3.45793321711153511799e+00,3.45409243066999360749e+00);
INSERT INTO "chunk" VALUES(3,6,4.16658025705442369712e+00,4.1638173447226431989e+00);
INSERT INTO "chunk" VALUES(3,7,3.97838937682502757908e+00,3.97376761812696122078e+00);
INSERT INTO "chunk" VALUES(3,8,3.84376747248474837093e+00,3.83740263959459060316e+00);
INSERT INTO "chunk" VALUES(3,9,3.91677896845109829726e+00,3.85210385923703846344e+00);
INSERT INTO "chunk" VALUES(3,10,3.51649602683851636442e+00,3.51880026905904363943e+00);
INSERT INTO "chunk" VALUES(3,11,3.18987127323014396651e+00,3.18916121914991679275e+00);
INSERT INTO "chunk" VALUES(3,12,3.56469337899138238867e+00,3.56223734938602465405e+00);
INSERT INTO "chunk" VALUES(3,13,3.73262646531870689869e+00,3.73146941425135425518e+00);
INSERT INTO "chunk" VALUES(3,14,3.54977665612861459365e+00,3.54331657925246368279e+00);
INSERT INTO "chunk" VALUES(3,15,3.52357149234670252724e+00,3.52652466631245031791e+00);
INSERT INTO "chunk" VALUES(3,16,3.51323315115330325753e+00,3.50883261796517764707e+00);
INSERT INTO "chunk" VALUES(3,17,3.79637945944567301026e+00,3.79768603142032024067e+00);
INSERT INTO "chunk" VALUES(3,18,3.14792924225657388959e+00,3.15741827070912295383e+00);
INSERT INTO "chunk" VALUES(3,19,4.2752795272874237753e+00,4.26929901419616530944e+00);
INSERT INTO "chunk" VALUES(3,20,4.25922657378223323831e+00,4.26407290110749848111e+00);
INSERT INTO "chunk" VALUES(3,21,3.6601623033267869367e+00,3.65903667747252336894e+00);
INSERT INTO "chunk" VALUES(3,22,4.09743031791857692525e+00,4.0812158838953038753e+00);
INSERT INTO "chunk" VALUES(3,23,3.66922793582940398593e+00,3.67166575536633743581e+00);
INSERT INTO "chunk" VALUES(3,24,3.73213417224894605794e+00,3.74109085102568572622e+00);
INSERT INTO "chunk" VALUES(4,1,3.65628419772443891133e+00,3.65152784929745699571e+00);
INSERT INTO "chunk" VALUES(4,2,4.0634562682020076707e+00,4.06399144842600357208e+00);
INSERT INTO "chunk" VALUES(4,3,4.1780506717322,4.15995655064090374963e+00);
INSERT INTO "chunk" VALUES(4,4,3.62940586792542152494e+00,3.62362952919408476404e+00);
INSERT INTO "chunk" VALUES(4,7,3.97716958482466242941e+00,3.97376761812696122078e+00);
INSERT INTO "chunk" VALUES(4,11,3.19130418694689055314e+00,3.18916121914991679275e+00);
INSERT INTO "chunk" VALUES(4,15,3.52130314336620386939e+00,3.52652466631245031791e+00);
INSERT INTO "chunk" VALUES(4,16,3.51270911621845405292e+00,3.50883261796517764707e+00);
INSERT INTO "chunk" VALUES(4,20,4.25805813397625421146e+00,4.26407290110749848111e+00);
INSERT INTO "chunk" VALUES(4,24,3.73935784100612922387e+00,3.74109085102568572622e+00);
CREATE TABLE result (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  trial INTEGER NOT NULL UNIQUE REFERENCES trial (number),
  record TEXT NOT NULL
);
INSERT INTO "result" VALUES(1,1,'{"trial":"52b684bab0d8","fusion":"key","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"key","kvRatio":0.5,"kvTail":1,"whole":"auto","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null,"achievedRatio":0,"achievedRatioWithWarmup":0,"skipRatioPerLayer":[0,0,0,0,0,0,0,0,0,0],"kvAchievedRatio":0.5665,"dropRatioPerLayer":[0.67,0.765,0.72,0.615,0,0.685,0.735,0.74,0,0.735],"wholeLayers":[4,8],"perplexity":42.67925529778168,"densePerplexity":42.64650887275033,"nllDelta":0.0007675624580071746,"nllDeltaSe":0.0009422731791471723,"kl":0.001194114282023571,"top1Agreement":0.9892063492063492,"tokens":1600,"scoredTokens":1575,"kvBytesHeld":456714.24,"kvBytesAvoided":34805.76,"kvBytesAllocated":491520,"parametersDense":4845504,"parametersAvoided":0,"queriesDense":16000,"queriesSkipped":0,"pairsDense":520000,"pairsAvoided":36256,"projectionFlopsDense":3538944000,"projectionFlopsAvoided":0,"attentionFlopsDense":3938304000,"attentionFlopsAvoided":27844608,"totalFlopsDense":15892070400,"totalFlopsAvoided":27844608,"timeMs":749.1553089999993,"denseTimeMs":813.0673280000005,"lossBlocks":{"sums":[240.63448,229.97458,255.91628,262.76408,228.49713,217.86785,262.52398,250.38835,242.04669,242.62359,221.50519,200.87897,224.62505,234.92936,223.52199,222.08129,220.99859,239.14529,198.30951,269.05234,268.38794,230.75118,257.90157,231.403,235.36967],"sizes":[63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63]},"looksAhead":false,"version":"0.1.0","model":"tiny","modelSha256":"5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6","text":"built-in prose","textSha256":"39784f8adf4833a36290d272d53eacb547ea1afeeb3b7f278bba0128fd9a002a","context":64,"textTokens":1600,"bos":true,"backend":"cpu","cacheDType":"f32","runDigest":"082a3b72d2e11fdd127b69aa92cd0646a3c1528f41374c6f35b03c9de1f7d817","deno":"2.9.6","finishedAt":"2026-11-30T22:55:14.697Z"}');
INSERT INTO "result" VALUES(2,2,'{"trial":"9ee7ad75ecc2","fusion":"key","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"key","kvRatio":0.5,"kvTail":1,"whole":"none","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null,"achievedRatio":0,"achievedRatioWithWarmup":0,"skipRatioPerLayer":[0,0,0,0,0,0,0,0,0,0],"kvAchievedRatio":0.595,"dropRatioPerLayer":[0.565,0.62,0.59,0.485,0.615,0.555,0.635,0.65,0.595,0.64],"perplexity":42.70146822024327,"densePerplexity":42.64650887275033,"nllDelta":0.0012878888747331059,"nllDeltaSe":0.0015039848365429828,"kl":0.0019737646891629566,"top1Agreement":0.9815873015873016,"tokens":1600,"scoredTokens":1575,"kvBytesHeld":454963.2,"kvBytesAvoided":36556.8,"kvBytesAllocated":491520,"parametersDense":4845504,"parametersAvoided":0,"queriesDense":16000,"queriesSkipped":0,"pairsDense":520000,"pairsAvoided":38080,"projectionFlopsDense":3538944000,"projectionFlopsAvoided":0,"attentionFlopsDense":3938304000,"attentionFlopsAvoided":29245440,"totalFlopsDense":15892070400,"totalFlopsAvoided":29245440,"timeMs":572.7217299999984,"denseTimeMs":813.0673280000005,"lossBlocks":{"sums":[240.58158,229.8752,256.38534,263.33555,228.22577,218.0889,262.96158,250.33553,241.82416,242.19094,221.35777,201.05188,225.1258,235.1074,223.26852,222.22308,221.08513,239.05137,198.16293,269.13653,267.74028,230.64597,257.97938,231.55115,235.62573],"sizes":[63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63]},"looksAhead":false,"version":"0.1.0","model":"tiny","modelSha256":"5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6","text":"built-in prose","textSha256":"39784f8adf4833a36290d272d53eacb547ea1afeeb3b7f278bba0128fd9a002a","context":64,"textTokens":1600,"bos":true,"backend":"cpu","cacheDType":"f32","runDigest":"082a3b72d2e11fdd127b69aa92cd0646a3c1528f41374c6f35b03c9de1f7d817","deno":"2.9.6","finishedAt":"2026-11-30T22:55:15.732Z"}');
INSERT INTO "result" VALUES(3,3,'{"trial":"613f741f4777","fusion":"mean","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"mean","kvRatio":0.5,"kvTail":1,"whole":"auto","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null,"achievedRatio":0,"achievedRatioWithWarmup":0,"skipRatioPerLayer":[0,0,0,0,0,0,0,0,0,0],"kvAchievedRatio":0.5695,"dropRatioPerLayer":[0.725,0.79,0.685,0.65,0,0.715,0.705,0.685,0,0.74],"wholeLayers":[4,8],"perplexity":42.804077971584185,"densePerplexity":42.64650887275033,"nllDelta":0.0036879624411051666,"nllDeltaSe":0.002763480456882493,"kl":0.0029201631153699674,"top1Agreement":0.9873015873015873,"tokens":1600,"scoredTokens":1575,"kvBytesHeld":456529.92,"kvBytesAvoided":34990.08,"kvBytesAllocated":491520,"parametersDense":4845504,"parametersAvoided":0,"queriesDense":16000,"queriesSkipped":0,"pairsDense":520000,"pairsAvoided":36448,"projectionFlopsDense":3538944000,"projectionFlopsAvoided":0,"attentionFlopsDense":3938304000,"attentionFlopsAvoided":27992064,"totalFlopsDense":15892070400,"totalFlopsAvoided":27992064,"timeMs":684.7370219999975,"denseTimeMs":813.0673280000005,"lossBlocks":{"sums":[240.6572,230.05898,255.76557,262.25196,228.70016,217.84979,262.49456,250.63853,242.15735,246.75708,221.53925,200.96189,224.57568,235.15547,223.63593,221.985,221.33369,239.17191,198.31954,269.34261,268.33127,230.59023,258.13811,231.16136,235.12445],"sizes":[63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63]},"looksAhead":false,"version":"0.1.0","model":"tiny","modelSha256":"5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6","text":"built-in prose","textSha256":"39784f8adf4833a36290d272d53eacb547ea1afeeb3b7f278bba0128fd9a002a","context":64,"textTokens":1600,"bos":true,"backend":"cpu","cacheDType":"f32","runDigest":"082a3b72d2e11fdd127b69aa92cd0646a3c1528f41374c6f35b03c9de1f7d817","deno":"2.9.6","finishedAt":"2026-11-30T22:55:16.861Z"}');
CREATE TABLE seal (
  place TEXT NOT NULL,
  key TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  PRIMARY KEY (place, key)
) WITHOUT ROWID;
INSERT INTO "seal" VALUES('result','1','f62ea35df88e85e479ad23385e36933faf1a5f1597c7be919393593628195aa5');
INSERT INTO "seal" VALUES('result','2','f8b184b3d6775c3473a0a8cfe09cf1f61c44e718c0c7f4a7588c4c8cf21bb256');
INSERT INTO "seal" VALUES('result','3','628a7c4e40f70b807f5d51d2c22161a24240d4f0c87272c27e5c55df48d6904f');
INSERT INTO "seal" VALUES('setting','began','92c7d731fc8ff1b19b7fc77fe7f6c7f644ddb631e5e0ee2b82b8e1126af94401');
INSERT INTO "seal" VALUES('setting','conditions','50aeb36c6106b9fa6597dd50ab867303f4d977f6a07a9befa02186fc1b2b09b7');
INSERT INTO "seal" VALUES('setting','dense','13b946275378a89d2d59fab426adbd7952e4fc1ceb60432771fca4a0cc4814e6');
INSERT INTO "seal" VALUES('setting','environment','b059867d2609827d2e169f6de0f8335bbcfd2cbbd5fa593475b04a8cea0645a9');
INSERT INTO "seal" VALUES('setting','flags','40ea005478ed70936eaf13c1b30fcb9a04c6744806d6d70886e5698e969787f0');
INSERT INTO "seal" VALUES('setting','name','85ed1bc1fc09a3376c01a9ab5840eb84bfcd37fec18721b72008a92eaf0c8f71');
INSERT INTO "seal" VALUES('setting','race','6145888797b1a2cb332b58ba6636aa0ca93e8758616d7187c928a861c2b7e5cf');
INSERT INTO "seal" VALUES('setting','runDigest','b2f48f7e1d96244547a8a687c25cd6a27a99526b83fba0bb17054716873c424b');
INSERT INTO "seal" VALUES('trial','52b684bab0d8','58820f177ec8877f466e92d296ec78956130d9178379e4217f78615596f488b1');
INSERT INTO "seal" VALUES('trial','613f741f4777','f06470fcb0e2bb96e5a2ccc8da9df105b8e8ce50e60511aaffcf05998283b2d3');
INSERT INTO "seal" VALUES('trial','9ee7ad75ecc2','c32c90e3a4b27f0a97431be1a4ff9de78bda3c5aef215788415faed487d6443d');
INSERT INTO "seal" VALUES('trial','c63d9f74b3bb','d0059efc1a9477a042913664c38b5da7c5fb628e44b4fdd750d6d0c1d90e21fd');
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "setting" VALUES('began','"2026-11-30T22:55:11.888Z"');
INSERT INTO "setting" VALUES('conditions','{"version":"0.1.0","model":"tiny","modelSha256":"5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6","text":"built-in prose","textSha256":"39784f8adf4833a36290d272d53eacb547ea1afeeb3b7f278bba0128fd9a002a","context":64,"textTokens":1600,"bos":true,"backend":"cpu","cacheDType":"f32"}');
INSERT INTO "setting" VALUES('dense','{"perplexity":42.64650887275033,"nll":3.752945415317734,"tokens":1600,"scoredTokens":1575,"chunks":25,"context":64,"timeMs":813.0673280000005,"kvBytesHeld":491520,"kvBytesAllocated":491520,"attentionFlops":3938304000,"totalFlops":15892070400,"lossBlocks":{"sums":[240.75567,230.04625,256.03146,262.07726,228.28866,217.60782,262.32049,250.34736,241.75637,242.68254,221.68442,200.91716,224.42095,235.08257,223.22894,222.17105,221.05645,239.25422,198.91735,268.96584,268.63659,230.51931,257.1166,231.31494,235.68872],"sizes":[63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63,63]}}');
INSERT INTO "setting" VALUES('environment','{"version":"0.1.0","model":"tiny","modelSha256":"5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6","text":"built-in prose","textSha256":"39784f8adf4833a36290d272d53eacb547ea1afeeb3b7f278bba0128fd9a002a","context":64,"textTokens":1600,"bos":true,"backend":"cpu","cacheDType":"f32","runDigest":"082a3b72d2e11fdd127b69aa92cd0646a3c1528f41374c6f35b03c9de1f7d817","tokensSha256":"aa1d0452fe84c376d8943362865d63c44c3b46d0f85a8de0b9460730333fb23a","tokenizerSha256":"4903f1be429123e1879349fabb6df9fcbebfb60eef9590f9048822243ee2b9ba","protocol":"One token stream with one BOS at its start where the tokenizer adds one; disjoint chunks of the context length, the tail dropped, each a sequence of its own, one prefill; perplexity = exp of the mean of the chunks'' mean losses, softmax over float32 logits; KL and top-1 on the same positions.","label":"GPTQ style at 64","backendDescription":"cpu: avx512, 1 thread, built-in matrix product (a BLAS is no faster at this level)","deno":"2.9.6","platform":"linux x86_64","startedAt":"2026-11-30T22:55:11.984Z"}');
INSERT INTO "setting" VALUES('flags','{"model":"tiny","context":"64","tokens":"1600","products":"exact","backend":"cpu"}');
INSERT INTO "setting" VALUES('name','"rel_s2"');
INSERT INTO "setting" VALUES('race','{"kind":"sequential","seed":0}');
INSERT INTO "setting" VALUES('runDigest','"082a3b72d2e11fdd127b69aa92cd0646a3c1528f41374c6f35b03c9de1f7d817"');
CREATE TABLE trial (
  number INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  options TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'complete', 'pruned', 'failed')),
  owner TEXT,
  lease REAL,
  attempt INTEGER NOT NULL DEFAULT 0,
  error TEXT
);
INSERT INTO "trial" VALUES(1,'52b684bab0d8','{"fusion":"key","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"key","kvRatio":0.5,"kvTail":1,"whole":"auto","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null}','complete','1-0a1b2c3d@machine/1',NULL,1,NULL);
INSERT INTO "trial" VALUES(2,'9ee7ad75ecc2','{"fusion":"key","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"key","kvRatio":0.5,"kvTail":1,"whole":"none","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null}','complete','1-0a1b2c3d@machine/1',NULL,1,NULL);
INSERT INTO "trial" VALUES(3,'613f741f4777','{"fusion":"mean","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"mean","kvRatio":0.5,"kvTail":1,"whole":"auto","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null}','complete','1-0a1b2c3d@machine/1',NULL,1,NULL);
INSERT INTO "trial" VALUES(4,'c63d9f74b3bb','{"fusion":"mean","invert":false,"shuffle":false,"tau":1,"lambda":0,"eps":0.000001,"alpha":0.5,"anchor":"ema","gamma":0.9,"absorb":"all","pruneRatio":0,"tail":0.75,"schedule":"uniform","slope":0.5,"warmup":8,"threshold":"budget","window":256,"theta":0,"eta":0.1,"keyState":"post-rope","recent":16,"substitute":"none","sinks":4,"block":32,"kvFusion":"mean","kvRatio":0.5,"kvTail":1,"whole":"none","wholeShare":0.6,"protect":0.1,"ridge":1,"projections":16,"features":["similarity","norm","projection"],"barrier":1,"compensation":true,"seed":0,"skipRatios":null}','waiting','1-0a1b2c3d@machine/1',NULL,1,NULL);
CREATE TABLE worker (
  owner TEXT PRIMARY KEY,
  seen REAL NOT NULL,
  finished INTEGER NOT NULL DEFAULT 0,
  trial INTEGER
) WITHOUT ROWID;
INSERT INTO "worker" VALUES('1-0a1b2c3d@machine/1',1796079317352.0,3,NULL);
CREATE INDEX trial_state ON trial (state, number);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('result',3);
COMMIT;
